"""Draw every mask generator and masked operation on a photograph: a sheet and an HTML page.

  maskjax gallery --out=gallery

Writes gallery.png, gallery_small.png and gallery.html (sliders for hidden share and seed; works
without network). The same arguments give the same files. Takes a few minutes on a CPU.
"""

import argparse
import pathlib
import sys

from maskjax.errors import UserError


def add_arguments(parser: argparse.ArgumentParser):
    """Arguments of `maskjax gallery`."""
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the files")
    parser.add_argument("--image", metavar="FILE", help="your photograph; default: a cat")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="first seed; default 0")


def run(args: argparse.Namespace):
    """Draws and writes."""
    out = pathlib.Path(args.out)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out={args.out}: is a file, not a folder")
    if not 0 <= args.seed < 2**31:
        raise UserError(f"--seed={args.seed}: must be a number in 0..2147483647")
    from maskjax.gallery import build, scene
    from maskjax.train import runtime

    image = scene.read_image(args.image)
    runtime.enable_compile_cache()
    show = lambda line: print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)  # noqa: E731
    paths = build.build(out, image, seed=args.seed, progress=show if sys.stderr.isatty() else print)
    for path in paths:
        print(f"{path}: {path.stat().st_size // 1024:,} kB")
