"""Write an image set again, reduced to a short side of 256 to 320 pixels, in shards.

  maskjax data-prepare --data=folder:/data/imagenet --split=train --out=/data/imagenet-288
  maskjax train --config.data.path=wds:/data/imagenet-288 ...

Reading and decoding then cost a third, in every epoch. Images that are small enough are copied byte
for byte. The same command goes on where it was stopped. Several splits may share a folder.
"""

import argparse
import os
import sys
import time


def add_arguments(parser: argparse.ArgumentParser):
    """Arguments of `maskjax data-prepare`."""
    parser.add_argument("--data", required=True, metavar="SPEC", help="folder:DIR, tfds:..., ...")
    parser.add_argument("--split", default="train", help="default: train")
    parser.add_argument("--out", required=True, metavar="DIR", help="or gs://, s3://")
    parser.add_argument("--short-side", type=int, default=288, metavar="PIXELS")
    parser.add_argument("--quality", type=int, default=90, help="of JPEG, 1 .. 100")
    parser.add_argument("--format", default="wds", help="wds, parquet or array_record")
    parser.add_argument("--per-shard", type=int, default=2000, metavar="IMAGES")
    parser.add_argument("--resample", default="pillow", help="pillow, or simd (faster)")
    parser.add_argument("--skip-broken", action="store_true", help="list and leave out, not stop")
    parser.add_argument("--name", help="of the shards; default: the split without its slice")
    parser.add_argument("--workers", type=int, help="processes; default: the number of cores")


def run(args: argparse.Namespace):
    """Writes, with a line of progress for each shard, and says what was saved."""
    from maskjax.data.prepare import Counts, Recipe, prepare
    from maskjax.data.source import resolve

    recipe = Recipe(
        args.name or args.split.partition("[")[0],
        args.short_side,
        args.quality,
        args.format,
        args.per_shard,
        args.resample,
        args.skip_broken,
        f"{args.data} {args.split}",
    )
    source = resolve(args.data, args.split)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = args.workers if args.workers is not None else (cores if cores > 1 else 0)
    total, fresh, began = Counts(), 0, time.perf_counter()
    for counts, now in prepare(source, args.out, recipe, workers):
        total.add(counts)
        if now:
            fresh += counts.images + len(counts.skipped)
            done = total.images + len(total.skipped)
            print(_line(done, len(source), fresh, time.perf_counter() - began), flush=True)
    for line in total.skipped:
        print(f"left out: {line}", file=sys.stderr)
    saved = total.bytes_before / max(1, total.bytes_after)
    print(
        f"{args.out}: {total.images:,} images ({total.copied:,} copied as they were,"
        f" {len(total.skipped):,} left out), {_size(total.bytes_before)} ->"
        f" {_size(total.bytes_after)}, {saved:.1f} times smaller"
    )
    print(f"--config.data.path={recipe.format}:{args.out}")


def _line(done: int, of: int, fresh: int, seconds: float) -> str:
    from maskjax.observe.progress import format_duration, format_rate

    rate = fresh / seconds
    left = f"ETA {format_duration((of - done) / rate)}" if done < of else "done"
    return f"{done:,}/{of:,} images ({100 * done // of} %)  {format_rate(rate)} images/s  {left}"


def _size(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"
