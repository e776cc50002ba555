"""Look at training data: what it is, its pictures, its faults, how fast it can be read.

  maskjax data --data=folder:/data/pets                              what is there
  maskjax data --data=folder:/data/pets --check --report=pets.json   read every image
  maskjax data --config=mim/mae:b16 --config.data.path=/data/imagenet --show=sheet.png
  maskjax data --config=mim/mae:b16 --config.data.path=/data/imagenet --benchmark --need=2500

--check decodes every example in several processes and lists broken ones, duplicates (equal bytes),
sizes, modes and classes; the exit code is 1 if anything is broken. --show draws the first examples
of the training stream before and after augmentation. --benchmark times reading, decoding,
augmentation, batching and the copy to the device one by one in one thread, then whole pipelines
with several numbers of workers, and says which to take.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from maskjax.errors import UserError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from maskjax.data.inspect import Facts
    from maskjax.data.source import Source


def add_arguments(parser: argparse.ArgumentParser):
    """Arguments of `maskjax data`."""
    what = parser.add_argument_group("which data (one of the two)")
    what.add_argument(
        "--config", metavar="FILE[:ARG]", help="experiment; --config.key=value as in train"
    )
    what.add_argument("--data", metavar="SPEC", help="photo_crops, folder:DIR, a path, ...")
    what.add_argument("--split", help="default: the training split of the config, or train")
    what.add_argument("--size", type=int, default=224, help="of images, with --data; default 224")
    do = parser.add_argument_group("what to do (default: say what the data is)")
    do.add_argument("--check", action="store_true", help="read and decode every example")
    do.add_argument(
        "--show", metavar="FILE.png", help="draw examples before and after augmentation"
    )
    do.add_argument("--benchmark", action="store_true", help="images per second of each stage")
    more = parser.add_argument_group("details")
    more.add_argument(
        "--report", metavar="FILE", help="of --check: .json = summary, .csv = each example"
    )
    more.add_argument("--limit", type=int, help="--check N examples only, evenly spread")
    more.add_argument("--count", type=int, default=16, help="examples to --show; default 16")
    more.add_argument(
        "--workers", metavar="N,...", help="processes; default: by the number of cores"
    )
    more.add_argument("--seconds", type=float, default=3.0, help="for each timing; default 3")
    more.add_argument("--need", type=float, metavar="N", help="images/s that this host has to feed")
    parser.set_defaults(overrides=[])


def run(args: argparse.Namespace) -> int:
    """Does what was asked for; 1 if --check found something broken."""
    from maskjax import data_parts

    _check_arguments(args)
    config = _config(args)
    source = data_parts.data_source(config, "train")
    if len(source) == 0:
        raise UserError(f"{data_parts.data_spec(config)} holds no example")
    if args.data:
        _fit_channels(config, source)
    code = 0
    if not (args.check or args.show or args.benchmark):
        _describe(config, source)
    if args.check:
        code = _check(args, config, source)
    if args.show:
        _show(args, config, source)
    if args.benchmark:
        _benchmark(args, config, source)
    return code


def _check_arguments(args: argparse.Namespace):
    from maskjax.cli.run_arguments import check_out

    if bool(args.config) == bool(args.data):
        raise UserError("name the data by --config=FILE[:ARG] or by --data=SPEC")
    if args.overrides and not args.config:
        raise UserError("--config.key=value needs --config=FILE[:ARG]")
    for name in ("limit", "count", "size", "seconds", "need"):
        value = getattr(args, name)
        if value is not None and value <= 0:
            raise UserError(f"--{name}={value:g}: must be positive")
    if args.report:
        check_out(args.report, (".json", ".csv"))
        if not args.check:
            raise UserError("--report belongs to --check")
    if args.show:
        check_out(args.show, (".png",))


def _config(args: argparse.Namespace) -> "ConfigDict":
    from maskjax.config import default_config, load_config

    if args.config:
        config, _ = load_config(args.config, args.overrides)
    else:
        config = default_config("mim.mae")
        config.data.path = args.data
        config.model.image_size = (args.size, args.size)
        # What examples of other kinds want to know; see docs/data.md.
        config.model.update({"num_frames": 16, "num_points": 1024})
    if args.split:
        config.data.train_split = args.split
    return config


def _fit_channels(config: "ConfigDict", source: "Source"):
    """Arrays keep the channels that they have; files are decoded to colour."""
    from maskjax.data.examples import ExampleError, read_example

    try:
        image = read_example(source, 0).get("image")
    except ExampleError:
        return
    if hasattr(image, "shape") and image.shape[2:] not in ((), (1,), (3,)):
        config.model.channels = image.shape[2]


def _workers(args: argparse.Namespace) -> list[int] | None:
    if not args.workers:
        return None
    try:
        counts = [int(text) for text in args.workers.split(",")]
    except ValueError:
        counts = [-1]
    if min(counts) < 0:
        raise UserError(f"--workers={args.workers}: write numbers, such as 4 or 0,2,4")
    return counts


def _describe(config: "ConfigDict", source: "Source"):
    from maskjax import data_parts
    from maskjax.data.check import describe
    from maskjax.data.inspect import Inspector

    facts = Inspector(source, data_parts.decoding(config))(0)
    print("\n".join([_title(config), *describe(source, facts)]))
    print("next: --check, --show=FILE.png, --benchmark")


def _title(config: "ConfigDict") -> str:
    from maskjax import data_parts

    return f"{data_parts.data_spec(config)}, split {config.data.train_split}"


def _check(args: argparse.Namespace, config: "ConfigDict", source: "Source") -> int:
    from maskjax import data_parts
    from maskjax.data.check import Summary, lines, write_csv
    from maskjax.data.inspect import Inspector
    from maskjax.data.pipeline import num_cores
    from maskjax.observe.files import write_json

    transform = None
    if args.config and data_parts.data_kind(config) != "image":
        transform = data_parts.eval_transform(config)
    inspector = Inspector(source, data_parts.decoding(config), transform)
    count = min(args.limit or len(source), len(source))
    numbers = [n * len(source) // count for n in range(count)] if args.limit else range(count)
    counts = _workers(args) or [num_cores()]
    print(f"{_title(config)}: reading {count:,} of {len(source):,} examples", flush=True)
    summary = Summary(source)
    found = _found(inspector, numbers, max(counts), summary)
    if args.report and args.report.endswith(".csv"):
        with open(args.report, "w", newline="", encoding="utf-8") as file:
            write_csv(found, file)
    else:
        _use_up(found)
    if args.report and args.report.endswith(".json"):
        about = {"data": data_parts.data_spec(config), "split": config.data.train_split}
        write_json(args.report, {**about, **summary.as_dict()})
    print("\n".join(lines(summary)))
    if args.report:
        print(f"report: {args.report}")
    return 1 if summary.broken else 0


def _found(inspector: Any, numbers: Sequence[int], workers: int, summary: Any) -> "Iterator[Facts]":
    """The facts of every example, added up and with a progress line on the way."""
    from maskjax.data.walk import walk
    from maskjax.observe.progress import Progress

    interval = 0.2 if sys.stdout.isatty() else 5.0
    with Progress(len(numbers), 1, what="example") as progress:
        shown = time.monotonic()
        for chunk in walk(inspector, numbers, workers):
            for facts in chunk:
                summary.add(facts)
                if facts.problem and len(summary.broken) <= 3:
                    print(f"broken: {facts.problem}", file=sys.stderr)
                yield facts
            if time.monotonic() > shown + interval:
                shown = time.monotonic()
                progress.update(summary.count, {})


def _use_up(things: Iterable[Any]):
    for _ in things:
        pass


def _show(args: argparse.Namespace, config: "ConfigDict", source: "Source"):
    from maskjax.data_sheet import training_sheet
    from maskjax.observe.pictures import save_png

    save_png(args.show, training_sheet(config, source, args.count))
    print(f"{args.show}: {args.count} examples of {_title(config)}")


def _benchmark(args: argparse.Namespace, config: "ConfigDict", source: "Source"):
    from maskjax.data_benchmark import benchmark

    for line in benchmark(
        config,
        source,
        workers=_workers(args),
        seconds=args.seconds,
        need=args.need,
        with_model=bool(args.config),
    ):
        print(line, flush=True)
