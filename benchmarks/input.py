"""Images per second and core, from files to batches, against torchvision's MAE transform.

    python benchmarks/input.py [--rounds 7] [--contestants NAME ...] [--torch-python PYTHON]

Every contestant is a whole pipeline on the same JPEG files (crops of the embedded photographs,
about 500 x 390 pixels, quality 90): read, decode, RandomResizedCrop to 224, flip, batch. Each is a
process of its own on one core with one thread of work; all run in turn, and compared are medians of
process CPU time per image. torchvision ends in normalised float32 tensors, as MAE's recipe does;
maskjax ends in uint8, since it normalises on the device. torchvision runs if it is installed, here
or for the interpreter that --torch-python names (`pip install torch; pip install --no-deps
torchvision pillow`).
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from input_contestants import OURS, PARTS, THEIRS, photographs
from rounds import OUT, Contestant, add_options, measure, show, write

from maskjax.data.prepare import Recipe, shrink


def available(torch_python: str) -> tuple[str, ...]:
    """Names of the contestants that can run here."""
    find = "importlib.util.find_spec"
    probe = f"import importlib.util; exit(not ({find}('torch') and {find}('torchvision')))"
    theirs = subprocess.run([torch_python, "-c", probe], check=False).returncode == 0
    packages = {"simd": "cykooz_resizer", "opencv": "cv2"}
    ours = [
        name
        for name, settings in OURS.items()
        if importlib.util.find_spec(packages.get(settings.get("resample"), "PIL"))
    ]
    return (*(THEIRS if theirs else ()), *ours, *PARTS)


def chosen(names: Sequence[str], torch_python: str) -> list[str]:
    """The contestants that were asked for, or all whole pipelines, in the order of `available`.

    Raises:
        SystemExit: naming what cannot run here.
    """
    there = available(torch_python)
    if missing := [name for name in names if name not in there]:
        raise SystemExit(
            f"no contestant {', '.join(missing)} here; there are: {', '.join(there)}"
            " (torchvision needs torch and torchvision, see --help)"
        )
    return [name for name in there if name in (names or {*THEIRS, *OURS})]


def write_files(folder: Path, pictures: Sequence[bytes], count: int) -> None:
    """folder/train/<class>/<number>.jpg: `count` names for the pictures in turn.

    A set of natural size: shuffling a few hundred numbers costs Grain more than shuffling millions.
    """
    for number in range(count):
        path = folder / "train" / f"{number % 16:02d}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number < len(pictures):
            path.write_bytes(pictures[number])
        else:
            first = number % len(pictures)
            os.link(folder / "train" / f"{first % 16:02d}" / f"{first:06d}.jpg", path)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options, with defaults filled in."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ", ".join((*THEIRS, *OURS, *PARTS))
    parser.add_argument("--contestants", nargs="+", default=(), metavar="NAME", help=names)
    parser.add_argument("--images", type=int, default=512, help="different ones; default: 512")
    parser.add_argument("--names", type=int, default=16384, help="links to them; default: 16384")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--quality", type=int, default=90, help="of the JPEG files")
    parser.add_argument("--torch-python", default=sys.executable, metavar="PYTHON")
    add_options(parser, rounds=7, units=8, unit="batches", out="input.json")
    options = parser.parse_args(argv)
    if (
        min(options.rounds, options.units, options.batch, options.images) < 1
        or options.names < options.batch
    ):
        parser.error("--rounds, --batches, --batch must be at least 1, --names at least a batch")
    options.out = options.out or OUT / "input.json"
    return options


def main(argv: Sequence[str] | None = None):
    """The command."""
    options = parse(argv)
    names = chosen(options.contestants, options.torch_python)
    with tempfile.TemporaryDirectory() as folder:
        data, prepared = Path(folder, "original"), Path(folder, "prepared")
        pictures = list(photographs(options.images, 390, 500, options.quality))
        write_files(data, pictures, options.names)
        if any(OURS.get(name, {}).get("prepared") for name in names):
            # What `maskjax data-prepare --short-side=288` makes of them.
            reduced = [shrink(data, "?", Recipe("train", 288))[0] for data in pictures]
            write_files(prepared, reduced, options.names)

        def start(name: str) -> Contestant:
            task = {"name": name, "data": str(data), "prepared": str(prepared)}
            python = options.torch_python if name in THEIRS else sys.executable
            more = {"batch": options.batch, "core": options.core}
            return Contestant("input_contestants.py", task | more, python)

        seconds, versions = measure(names, start, rounds=options.rounds, units=options.units)
    per_image = {name: [s / options.batch for s in found] for name, found in seconds.items()}
    kilobytes = round(sum(map(len, pictures)) / len(pictures) / 1000, 1)
    settings = {"images": options.images, "names": options.names, "kB per file": kilobytes}
    settings |= {"batch": options.batch, "rounds": options.rounds, "batches": options.units}
    record = write(options.out, settings, versions, per_image)
    show(record, tuple(settings), "image", scale=1e6)
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
