"""The MAE training step against Hugging Face's ViTMAEForPreTraining, as ratios.

    python benchmarks/step.py [--size tiny] [--batch 8] [--rounds 7] [--out FILE.json]

A step is forward, backward and AdamW with the same hyper-parameters. Every contestant is a process
of its own on one core and one thread; all run in turn, round after round, so that whatever else the
machine does falls on all of them. Compared are medians over the rounds of process CPU time: only
ratios mean anything on another machine, and differences under 10 % mean nothing. Without PyTorch
and transformers (`make test-torch` installs them) only our own variants run.
"""

import argparse
import importlib.util
import os
import statistics
from collections.abc import Sequence

import numpy as np
from contestants import BATCHES, DTYPES, OURS, SIZES, TEXTBOOK, THEIRS, our_method
from rounds import OUT, Contestant, add_options, measure, show, write


def available() -> tuple[str, ...]:
    """Names of the contestants that can run here."""
    installed = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
    return (THEIRS if installed else ()) + TEXTBOOK + OURS


def chosen(names: Sequence[str], dtypes: Sequence[str]) -> list[str]:
    """The contestants that were asked for, in the order of `available`.

    Raises:
        SystemExit: naming what cannot run here.
    """
    missing = [name for name in names if name not in available()]
    if missing:
        raise SystemExit(
            f"no contestant {', '.join(missing)} here; there are: {', '.join(available())}"
            " (hf/... need PyTorch and transformers)"
        )
    found = names or available()
    return [n for n in available() if n in found and (not dtypes or n.split("/")[1] in dtypes)]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options, with defaults filled in."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--batch", type=int, help=f"images per step; default by size: {BATCHES}")
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=())
    names = ", ".join(THEIRS + TEXTBOOK + OURS)
    parser.add_argument("--contestants", nargs="+", default=(), metavar="NAME", help=names)
    add_options(parser, rounds=7, units=2, unit="steps", out="step_SIZE.json")
    options = parser.parse_args(argv)
    if min(options.rounds, options.units, options.batch or 1) < 1:
        parser.error("--rounds, --steps and --batch must be at least 1")
    options.batch = options.batch or BATCHES[options.size]
    options.out = options.out or OUT / f"step_{options.size}.json"
    return options


def saving(seconds: dict[str, list[float]], dtype: str, size: str) -> tuple[float, float] | None:
    """(how many times as long a step takes if the encoder sees all patches, the same by FLOPs).

    None if not both were run.
    """
    names = f"ours/{dtype}/unrolled", f"ours/{dtype}/all"
    if not all(name in seconds for name in names):
        return None
    side = SIZES[size]["image"]
    batch = {"image": np.zeros((1, side, side, 3), np.uint8), "position": np.zeros((1, 2))}
    flops = [our_method(name, SIZES[size], batch).step_flops for name in names]
    times = [statistics.median(seconds[name]) for name in names]
    return times[1] / times[0], flops[1] / flops[0]


def main(argv: Sequence[str] | None = None):
    """The command."""
    options = parse(argv)
    os.environ["JAX_PLATFORMS"] = "cpu"  # also of this process, which counts FLOPs
    names = chosen(options.contestants, options.dtype)
    if not names:
        raise SystemExit(f"no contestant is left of {', '.join(available())}")

    def start(name: str) -> Contestant:
        task = {"name": name, "size": options.size, "batch": options.batch}
        return Contestant("contestants.py", task | {"core": options.core})

    seconds, versions = measure(names, start, rounds=options.rounds, units=options.units)
    settings = {"size": options.size, "batch": options.batch}
    settings |= {"rounds": options.rounds, "steps": options.units}
    saved = {dtype: found for dtype in DTYPES if (found := saving(seconds, dtype, options.size))}
    record = write(options.out, {**settings, "saving": saved}, versions, seconds)
    show(record, tuple(settings), "step")
    for dtype, (speed, flops) in saved.items():
        share = f"{speed / flops:.2f} of it"
        print(f"{dtype}, all tokens: {flops:.2f} x the FLOPs, {speed:.2f} x the time, {share}")
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
