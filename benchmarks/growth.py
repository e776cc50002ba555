"""How the cost of an image grows with its size, the mask, the model, the batch and the devices.

    python benchmarks/growth.py [--rounds 5] [--out FILE.json] [--picture docs/images/growth.png]

One axis at a time around a small MAE (ViT-Tiny's width, 2 layers, 224 px, mask 0.75, batch 8), on
one core and one thread: process CPU time of a training step, all points in turn, medians of the
rounds. The line beside the points is the method's FLOP formula, scaled to go through the common
point, so that what the points do above it is what does not shrink with the FLOPs. For devices the
step of ViT-S is compiled for 1 to 256 TPU chips (libtpu; left out without it): traffic and memory
of one chip at 16 images each, beside what parameters and gradients alone would move.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import record
from config_step import IMAGES, SIZE, experiment, runner
from rounds import ONE_THREAD, add_options

CONFIG = "mim/mae:b16"
BASE = {**SIZE, "model.encoder.depth": 2, "model.decoder.depth": 1}
BATCH = 8
# {axis: (value at the common point, other values)}
AXES: dict[str, tuple[Any, tuple]] = {
    "image size, px": (224, (96, 160, 320, 448)),
    "mask ratio": (0.75, (0.01, 0.5, 0.9)),
    "depth": (2, (1, 4, 8)),
    "width": (192, (96, 384)),
    "batch": (BATCH, (2, 4, 16)),
}
CHIPS = {"v5e:1x1": 1, "v5e:2x2": 4, "v5e:4x4": 16, "v5e:8x8": 64, "v5e:16x16": 256}
SMALL = {"model.encoder.dim": 384, "model.encoder.depth": 12, "model.encoder.heads": 6}


def point(axis: str, value: Any) -> tuple[list[str], dict[str, int], int]:
    """(overrides, sizes, batch) of the step with one value on one axis."""
    overrides, size, batch = [], dict(BASE), BATCH
    if axis == "image size, px":
        overrides = [f"model.image_size=({value},{value})"]
    elif axis == "mask ratio":
        overrides = [f"model.mask_ratio={value}"]
    elif axis == "depth":
        size["model.encoder.depth"] = value
    elif axis == "width":
        size |= {"model.encoder.dim": value, "model.encoder.heads": value // 32}
    elif axis == "batch":
        batch = value
    return overrides, size, batch


def measured(rounds: int, steps: int) -> dict[str, dict[str, Any]]:
    """{axis: values, CPU seconds per image (medians), GFLOP per image by the formula}."""
    runs: dict[tuple, Any] = {}
    work: dict[tuple, float] = {}
    keys = {axis: [(axis, value) for value in values] for axis, (_, values) in AXES.items()}
    for key in [("base", None), *(key for group in keys.values() for key in group)]:
        overrides, size, batch = point(*key)
        parts = experiment(CONFIG, overrides, batch, size)
        runs[key], work[key] = (runner(parts), batch), parts.method.step_flops
        runs[key][0](2)
        print(f"ready: {key}", file=sys.stderr, flush=True)
    seconds: dict[tuple, list[float]] = {key: [] for key in runs}
    for _ in range(rounds):
        for key, (run, batch) in runs.items():
            run(1)  # the first step after another program finds that one's data in the caches
            began = time.process_time()
            run(steps)
            seconds[key].append((time.process_time() - began) / steps / batch)
    found = {}
    for axis, (common, values) in AXES.items():
        rows = sorted([(common, ("base", None)), *zip(values, keys[axis], strict=True)])
        found[axis] = {
            "values": [value for value, _ in rows],
            "seconds": [statistics.median(seconds[key]) for _, key in rows],
            "gflop": [work[key] / 1e9 for _, key in rows],
            "common": common,
        }
    return found


def compiled() -> dict[str, list[float]]:
    """Traffic and memory of one chip, by number of chips."""
    from maskjax import build
    from maskjax.config import load_config
    from maskjax.plan.collectives import bytes_of
    from maskjax.plan.compile import compile_step
    from maskjax.plan.ideal import ideal_traffic
    from maskjax.plan.target import target

    found: dict[str, list[float]] = {"chips": [], "moved": [], "ideal": [], "peak": [], "state": []}
    sizes = [f"--config.{key}={value}" for key, value in SMALL.items()]
    for topology, chips in CHIPS.items():
        fsdp = min(chips, 16)
        mesh = [f"--config.mesh.fsdp={fsdp}", f"--config.mesh.data={chips // fsdp}"]
        batch = f"--config.data.global_batch={16 * chips}"
        config, _ = load_config(CONFIG, [*sizes, *mesh, batch])
        parts = build.experiment(config, IMAGES, target(topology).devices)
        step = compile_step(parts, target(topology))
        if step.collectives is None:
            raise SystemExit(f"{topology}: the compiler cannot write this program as text")
        mib = {
            "moved": bytes_of(step.collectives),
            "ideal": ideal_traffic(parts.abstract_state.params, parts.mesh).total,
            "peak": step.memory.peak,
            "state": step.state_bytes,
        }
        found["chips"].append(chips)
        for name, size in mib.items():
            found[name].append(size / 2**20)
        print(f"compiled: {topology} in {step.seconds:.0f} s", file=sys.stderr, flush=True)
    return found


def plot(axes: dict[str, dict[str, Any]], devices: dict[str, list[float]] | None, path: Path):
    """The picture: one panel per axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(2, 3, figsize=(12, 6.6), layout="constrained")
    for panel, (axis, rows) in zip(panels.flat, axes.items(), strict=False):
        at = rows["values"].index(rows["common"])
        scale = rows["seconds"][at] / rows["gflop"][at]
        panel.plot(rows["values"], [1000 * scale * g for g in rows["gflop"]], "--", color="0.5")
        panel.plot(rows["values"], [1000 * s for s in rows["seconds"]], "o", color="C0")
        panel.set(xlabel=axis, ylabel="CPU ms per image", ylim=(0, None))
    panels.flat[0].legend(["FLOP formula", "measured"], frameon=False)
    last = panels.flat[5]
    if devices is None:
        last.set_axis_off()
    else:
        last.plot(devices["chips"], devices["ideal"], "--", color="0.5", label="traffic, ideal")
        last.plot(devices["chips"], devices["moved"], "o", color="C0", label="traffic, compiled")
        last.plot(devices["chips"], devices["peak"], "s", color="C1", label="peak memory")
        last.plot(devices["chips"], devices["state"], ":", color="C1", label="train state")
        last.set(xlabel="v5e chips, 16 images each", ylabel="MiB per chip", xscale="log")
        last.set_xticks(devices["chips"], [str(chips) for chips in devices["chips"]])
        last.set_ylim(0, None)
        last.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def show(axes: dict[str, dict[str, Any]], devices: dict[str, list[float]] | None):
    """Prints the numbers behind the picture."""
    for axis, rows in axes.items():
        at = rows["values"].index(rows["common"])
        print(f"\n{axis:>16} {'ms/image':>9} {'GFLOP':>8} {'time':>6} {'FLOPs':>6}")
        for value, spent, work in zip(rows["values"], rows["seconds"], rows["gflop"], strict=True):
            ratios = spent / rows["seconds"][at], work / rows["gflop"][at]
            print(f"{value:16} {1000 * spent:9.2f} {work:8.2f} {ratios[0]:6.2f} {ratios[1]:6.2f}")
    if devices:
        print(f"\n{'chips':>16} {'moved':>9} {'ideal':>8} {'peak':>8} {'state':>8}  MiB per chip")
        columns = (devices[name] for name in ("chips", "moved", "ideal", "peak", "state"))
        for chips, moved, ideal, peak, state in zip(*columns, strict=True):
            print(f"{chips:16} {moved:9.1f} {ideal:8.1f} {peak:8.0f} {state:8.0f}")


def main(argv: Sequence[str] | None = None):
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, rounds=5, units=2, unit="steps", out="growth.json")
    parser.add_argument("--picture", type=Path, default=record.ROOT / "docs/images/growth.png")
    options = parser.parse_args(argv)
    if min(options.rounds, options.units) < 1:
        parser.error("--rounds and --steps must be at least 1")
    os.environ.update(ONE_THREAD)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.core})
    record.prepare()
    from maskjax.plan.target import missing
    from maskjax.train import host_memory

    host_memory.keep_freed_memory()
    axes = measured(options.rounds, options.units)
    devices = None if missing("v5e:1x1") else compiled()
    show(axes, devices)
    plot(axes, devices, options.picture)
    print(f"\ndrawn: {options.picture}")
    record.write(options.out, "growth", options, {"axes": axes, "devices": devices})


if __name__ == "__main__":
    main()
