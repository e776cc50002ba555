"""How many steps TrAct saves on small data: the same run with and without, seed by seed.

    python benchmarks/tract.py --config=supervised/classify:tiny_plain --steps=400 --seeds=3

Both start from the same weights, see the same batches and have the same constant learning rate
after the warm-up (a rate that falls to 0 would end both runs at the same time). Losses are smoothed
over 25 steps. The figures: how many steps the run with TrAct needs to reach what the one without
has after 1/4, 1/2 and 3/4 of its steps. Wall time is not measured.
"""

import argparse
from collections.abc import Sequence

import numpy as np

from maskjax import build
from maskjax.config import load_config
from maskjax.data.train import train_iterator
from maskjax.data_parts import data_source, train_transform
from maskjax.train import sharding
from maskjax.train.feed import to_devices

WINDOW = 25


def losses(spec: str, steps: int, seed: int, strength: float, overrides: Sequence[str]) -> list:
    """Training losses of all steps of a run in memory."""
    given = [f"--config.{entry}" for entry in overrides]
    length = [f"--config.train.steps={steps}", f"--config.seed={seed}"]
    config, _ = load_config(spec, [*given, *length, f"--config.optim.tract={float(strength)}"])
    source = data_source(config, "train")
    parts = build.experiment(config, len(source))
    step, state, found = parts.step(), parts.init(), []
    rows = sharding.batch_sharding(parts.mesh)
    options = {"seed": seed, "global_batch": config.data.global_batch}
    with train_iterator(source, train_transform(config), **options) as batches:
        for index in range(steps):
            batch = to_devices(next(batches), rows)
            state, metrics = step(state, batch, parts.method.static(index))
            found.append(metrics["loss"])
    return [float(loss) for loss in found]


def first_below(curve: Sequence[float], target: float) -> int | None:
    """The first step at which the mean of the last 25 losses is not above the target."""
    smooth = np.convolve(curve, np.ones(WINDOW) / WINDOW, "valid")
    below = np.flatnonzero(smooth <= target)
    return int(below[0]) + WINDOW if len(below) else None


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the comparison and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="supervised/classify:tiny_plain")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--strength", type=float, default=0.1)
    args, rest = parser.parse_known_args(argv)
    overrides = [*(entry.removeprefix("--config.") for entry in rest), "optim.schedule=constant"]
    marks = [round(share * args.steps) for share in (0.25, 0.5, 0.75)]
    print(f"{args.config}, lambda {args.strength}: steps to the losses that the plain run")
    print(f"has after {', '.join(map(str, marks))} steps; last loss without, with")
    found = []
    for seed in range(args.seeds):
        run = (args.config, args.steps, seed)
        plain, changed = (losses(*run, s, overrides) for s in (0.0, args.strength))
        targets = [float(np.mean(plain[mark - WINDOW : mark])) for mark in marks]
        steps = [first_below(changed, target) for target in targets]
        found.append([np.nan if step is None else step for step in steps])
        ends = (f"{np.mean(curve[-WINDOW:]):.4f}" for curve in (plain, changed))
        print(f"seed {seed}:", *steps, *ends, flush=True)
    means = np.mean(found, 0)
    shares = (f"{mean / mark:.2f}" for mean, mark in zip(means, marks, strict=True))
    print("mean share of the plain run's steps:", *shares)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
