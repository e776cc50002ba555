"""What masks cost: each generator of maskjax.masking beside the MAE training step.

    python benchmarks/masks.py [--size base] [--batch 4096] [--rounds 5] [--out FILE.json]

A generator makes masks of 14 x 14 = 196 tokens for the whole batch from one key an example,
jitted. The step is forward, backward and AdamW of the MAE of `step.py`, at the small batch of
that benchmark; its time is scaled by images to the batch of the masks. All run in turn, round
after round, in one process on one core and one thread, each after an untimed call of its own;
compared are medians over the rounds of process CPU time. The shares are those of a CPU: an
accelerator speeds up the matmuls of the step far more than sorts and loops, so there they are
larger (`masks_tpu.py` estimates them). A law is sequential if its steps depend on each other
(block-wise masks, brush strokes); the aim of at most 2 % is for the others.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from contestants import BATCHES, OURS, SIZES, ours
from rounds import ONE_THREAD

HERE = Path(__file__).resolve().parent
GRID, TOKENS, VISIBLE = (14, 14), 196, 49
LIMIT = 0.02
STEP = "MAE step"


class Generator(NamedTuple):
    """One row.

    Attributes:
        draw: (key, arrays of one example) -> what the generator returns.
        inputs: shapes of float32 arrays that an example brings along, uniform in [0, 1).
        sequential: how many steps of the law follow each other; 0 for laws without.
    """

    draw: Callable[..., Any]
    inputs: tuple[tuple[int, ...], ...] = ()
    sequential: int = 0


def spatial() -> dict[str, Generator]:
    """Generators of `TokenSplit` and `TokenSet` over the grid."""
    from maskjax import masking
    from maskjax.masking import blocks, regions

    tries = blocks.TRIES

    def split(generator, **options):
        return lambda key: generator(key, GRID, num_visible=VISIBLE, **options)

    def strokes(key):
        hole = masking.irregular(key, (56, 56), area=0.25)
        return masking.from_hidden(masking.patches.from_pixels(hole, (4, 4)), num_visible=VISIBLE)

    return {
        "random": Generator(split(masking.random)),
        "random, raster order": Generator(split(masking.random, order="raster")),
        "random, as bool": Generator(lambda key: split(masking.random)(key).hidden()),
        "grid": Generator(split(masking.grid)),
        "coarse": Generator(split(masking.coarse, cell=2)),
        "center_out": Generator(split(masking.center_out, max_shift=0.2)),
        "multiblock": Generator(lambda key: masking.multiblock(key, GRID)),
        "region (3 boxes)": Generator(
            lambda key, corners: masking.region(
                regions.box_shares(224 * corners, GRID, (16, 16)) > 0,
                max_tokens=64,
                noise_or_key=key,
            ),
            ((3, 4),),
        ),
        "hide_regions": Generator(
            lambda key, owner: regions.hide_regions(
                key, (8 * owner).astype("int32"), num_visible=VISIBLE, num_regions=8
            ),
            ((TOKENS,),),
        ),
        "box (56 px, to tokens)": Generator(
            lambda key: masking.patches.from_pixels(masking.box(key, (56, 56)), (4, 4))
        ),
        "block, BEiT": Generator(split(masking.block), sequential=tries["beit"]),
        "block, CAE": Generator(split(masking.block, law="cae"), sequential=tries["cae"]),
        # A stroke is a walk of six turns; its passes over the pixels could run side by side.
        "irregular (56 px, to tokens)": Generator(strokes, sequential=6),
    }


def guided() -> dict[str, Generator]:
    """Coloured and guided masks, decoding, dropping, video, modalities, mixing."""
    import numpy as np

    from maskjax import masking
    from maskjax.masking import confidence, progressive

    visible = {"num_visible": VISIBLE}
    scores = ((TOKENS,),)
    counts = progressive.keep_counts(TOKENS, 0.75)
    bank = np.random.default_rng(0).random((16, 128, 128), np.float32)

    def colored(color, **options):
        return Generator(lambda k: masking.colored(k, GRID, color=color, **visible, **options))

    return {
        "colored, green": colored("green"),
        "colored, green, wrapped": colored("green", edges="wrap"),
        "colored, red": colored("red"),
        "colored_from_bank": Generator(
            lambda key: masking.colored_from_bank(key, bank, GRID, **visible)
        ),
        "sampled": Generator(lambda key, w: masking.sampled(key, w, **visible), scores),
        "ranked": Generator(lambda key, w: masking.ranked(w, **visible), scores),
        "easy_to_hard": Generator(
            lambda key, w: masking.easy_to_hard(key, w, num_hard=70, **visible), scores
        ),
        "confidence.reveal (one step)": Generator(
            lambda key, w: confidence.reveal(w, confidence.all_hidden(TOKENS), num_hidden=120),
            scores,
        ),
        "confidence.hide": Generator(lambda key: confidence.hide(key, TOKENS, 147)),
        "progressive (3 points, 16 wide)": Generator(
            lambda key, f: progressive.progressive(list(f), counts), ((3, TOKENS, 16),)
        ),
        "tube (4, 7, 7)": Generator(lambda key: masking.tube(key, (4, 7, 7), num_visible=48)),
        "running_cell (1, 14, 14)": Generator(
            lambda key: masking.running_cell(key, (1, *GRID), num_visible=98)
        ),
        "dirichlet (4 x 49)": Generator(lambda key: masking.dirichlet(key, (49,) * 4, **visible)),
        "groups_mix": Generator(lambda key: masking.groups_mix(key, GRID, num_images=4)),
    }


def prepared(generator: Generator, batch: int) -> Callable[[], None]:
    """A call that makes the masks of a batch, compiled and warm."""
    import jax
    import numpy as np

    rng = np.random.default_rng(0)
    keys = jax.random.split(jax.random.key(0), batch)
    arrays = [rng.random((batch, *shape), np.float32) for shape in generator.inputs]
    arguments = jax.device_put((keys, *arrays))
    compiled = jax.jit(jax.vmap(generator.draw))
    run = lambda: jax.block_until_ready(compiled(*arguments))  # noqa: E731
    run()
    run()
    return run


def cpu_seconds(run: Callable[[], Any], at_least: float) -> float:
    """CPU seconds of a call, the mean of as many as take `at_least` seconds together.

    One call goes before, untimed: the first after another program pays for that one's memory (as
    much as the masks themselves after a training step).
    """
    run()
    began, calls = time.process_time(), 0
    while calls == 0 or time.process_time() - began < at_least:
        run()
        calls += 1
    return (time.process_time() - began) / calls


def measure(options: argparse.Namespace) -> tuple[dict[str, list[float]], dict, dict]:
    """({name: seconds, one for each round}, {name: sequential steps}, versions)."""
    generators = {**spatial(), **guided()}
    known = [name for name in generators if not options.only or name in options.only]
    step, versions = ours(options.step, SIZES[options.size], options.step_batch)
    step(2)
    runs: dict[str, Callable[[], Any]] = {STEP: lambda: step(1)}
    for name in known:
        runs[name] = prepared(generators[name], options.batch)
        print(f"ready: {name}", file=sys.stderr, flush=True)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(options.rounds):
        for name, run in runs.items():
            seconds[name].append(cpu_seconds(run, options.least))
        print(f"round {i + 1} of {options.rounds}", file=sys.stderr, flush=True)
    sequential = {name: generators[name].sequential for name in known}
    return seconds, sequential, {"python": platform.python_version(), **versions}


def summarize(
    seconds: dict[str, list[float]], sequential: dict[str, int], images_per_step: float
) -> dict[str, dict[str, Any]]:
    """Medians, and shares of the step that has `images_per_step` times its batch."""
    whole = statistics.median(seconds[STEP]) * images_per_step
    summary = {}
    for name, steps in sequential.items():
        middle = statistics.median(seconds[name])
        share = middle / whole
        times = {"median_seconds": middle, "share": share, "sequential_steps": steps}
        summary[name] = {**times, "within_limit": share <= LIMIT}
    return summary


def show(summary: dict[str, dict[str, Any]], record: dict[str, Any]):
    """Prints the table, dearest last."""
    print(
        f"{record['batch']} x {TOKENS} tokens; {STEP}: {record['size']}, {record['step']},"
        f" {record['step_seconds']:.3f} CPU s for {record['step_batch']} images,"
        f" {record['scaled_seconds']:.0f} s for {record['batch']}; rounds {record['rounds']}"
    )
    print(", ".join(f"{key} {value}" for key, value in record["versions"].items()))
    print(f"\n{'generator':34} {'CPU ms':>9} {'of the step':>12}  law")
    for name, row in sorted(summary.items(), key=lambda item: item[1]["share"]):
        steps = row["sequential_steps"]
        law = f"sequential, {steps} steps" if steps else ""
        over = "" if row["within_limit"] else f"  above {LIMIT:.0%}"
        print(f"{name:34} {1000 * row['median_seconds']:9.1f} {row['share']:12.3%}  {law}{over}")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options, with defaults filled in."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="base", help="of the MAE; default base")
    parser.add_argument("--step", choices=OURS, default="ours/bfloat16/unrolled")
    parser.add_argument("--step-batch", type=int, help=f"images; default by size: {BATCHES}")
    parser.add_argument("--batch", type=int, default=4096, help="masks; default 4096")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--least", type=float, default=0.05, help="CPU seconds of a measurement")
    parser.add_argument("--only", nargs="+", default=(), metavar="NAME", help="these generators")
    parser.add_argument("--core", type=int, help="which core; default: the last one allowed")
    parser.add_argument("--out", type=Path, help="default: runs/benchmarks/masks_SIZE.json")
    options = parser.parse_args(argv)
    if min(options.rounds, options.batch, options.step_batch or 1) < 1:
        parser.error("--rounds, --batch and --step-batch must be at least 1")
    options.step_batch = options.step_batch or BATCHES[options.size]
    if options.core is None:
        options.core = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    default = HERE.parent / "runs" / "benchmarks" / f"masks_{options.size}.json"
    options.out = options.out or default
    return options


def one_thread(core: int):
    """Before any library starts its threads, which inherit it."""
    os.environ.update(ONE_THREAD)
    sys.path.insert(0, str(HERE.parent))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


def main(argv: Sequence[str] | None = None):
    """The command."""
    options = parse(argv)
    one_thread(options.core)
    names = {**spatial(), **guided()}
    missing = [name for name in options.only if name not in names]
    if missing:
        raise SystemExit(f"no generator {', '.join(missing)}; there are: {', '.join(names)}")
    seconds, sequential, versions = measure(options)
    scale = options.batch / options.step_batch
    summary = summarize(seconds, sequential, scale)
    chosen = ("size", "step", "step_batch", "batch", "rounds")
    record = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **{key: getattr(options, key) for key in chosen},
        "step_seconds": statistics.median(seconds[STEP]),
        "scaled_seconds": statistics.median(seconds[STEP]) * scale,
        "machine": platform.machine(),
        "versions": versions,
        "summary": summary,
        "seconds": seconds,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=2) + "\n")
    show(summary, record)
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
