"""One GPU or TPU host: images per second, utilisation, waiting for data, memory against the plan.

    python benchmarks/accelerator.py [--config mim/mae:l16] [--config.data.path=folder:DIR ...]

Trains as `maskjax train` would (on made-up images, unless data.path is given) and, in between,
makes as many bare steps on a batch that is already there. MFU is by the method's FLOP formula and
the peak of the chip; recomputation does not count as work. The plan is what the compiler said
before the first step; on TPU `maskjax.plan` says the same without a TPU. Goals for ViT-L and ViT-H:
MFU 40 %, at least 29 % (what the MAE paper's own TPU runs come to); waiting for data below 5 %.
Runs on a CPU as well, where no peak is known.
"""

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import loop
import record


def memory(parts: Any) -> dict[str, int | None]:
    """Bytes of one device: planned by the compiler, really used at most, and how many there are."""
    from maskjax.data_parts import example_batch

    batch = example_batch(parts.config, parts.config.data.global_batch)
    lowered = parts.step().lower(parts.abstract_state, batch, parts.method.static(0))
    stats = parts.mesh.devices.flat[0].memory_stats() or {}
    return {
        "planned": lowered.compile().memory_analysis().peak_memory_in_bytes,
        "used": stats.get("peak_bytes_in_use"),
        "limit": stats.get("bytes_limit"),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """One run; its record."""
    from maskjax.observe import flops
    from maskjax.observe.metrics_file import read_metrics

    parts, source = loop.prepared(options)
    with tempfile.TemporaryDirectory() as folder:
        times = loop.probe(parts, source, Path(folder), options)
        waits = [line["data/wait"] for line in read_metrics(Path(folder) / "metrics.jsonl")]
    devices, model = parts.mesh.devices, parts.config.model
    found: dict[str, Any] = {
        "device": devices.flat[0].device_kind,
        "num_devices": devices.size,
        "step_flops_per_image": parts.method.step_flops,
        "wait": statistics.median(waits),
        "memory": memory(parts),
    }
    for name, clock in (("loop", times.loop), ("step", times.bare)):
        rate = parts.config.data.global_batch / statistics.median(clock.wall)
        used = flops.mfu(
            parts.method.step_flops,
            rate,
            devices.size,
            devices.flat[0].device_kind,
            model.get("dtype", "float32"),
        )
        found[name] = {"images_per_second": rate, "mfu": used}
    return found


def gib(size: int | None) -> str:
    """ "12.34 GiB", or "not told"."""
    return "not told" if size is None else f"{size / 2**30:.2f} GiB"


def show(found: dict[str, Any], options: argparse.Namespace):
    """Prints the table."""
    print(f"\n{options.config} on {found['num_devices']} x {found['device']}")
    for name, what in (("step", "compiled step alone"), ("loop", "whole loop")):
        row = found[name]
        used = "peak not known" if row["mfu"] is None else f"MFU {row['mfu']:.1%}"
        print(f"{what:22} {row['images_per_second']:12,.1f} images/s   {used}")
    print(f"{'waiting for data':22} {found['wait']:12.1%} of the time")
    sizes = found["memory"]
    print(f"{'memory of a device':22} planned {gib(sizes['planned'])}, used {gib(sizes['used'])}")
    print(f"{'':22} of {gib(sizes['limit'])}")


def main(argv: Sequence[str] | None = None):
    """The command."""
    options = loop.parse(argv, __doc__, config="mim/mae:l16", data="synthetic:256x256x3:4096")
    record.prepare()
    found = measure(options)
    show(found, options)
    record.write(options.out, "accelerator", options, found)


if __name__ == "__main__":
    main()
