"""Draw original, masked, prediction and pasted for your own images.

  maskjax reconstruct --workdir=runs/demo --images cat.jpg dog.png --out=sheet.png

Images are resized and centre-cropped as in evaluation; --seed draws other masks.
"""

import argparse
import pathlib

from maskjax.cli.run_arguments import add_run_arguments, check_out, open_run
from maskjax.errors import UserError


def add_arguments(parser: argparse.ArgumentParser):
    """Arguments of `maskjax reconstruct`."""
    add_run_arguments(parser)
    parser.add_argument("--images", required=True, nargs="+", metavar="FILE")
    parser.add_argument("--out", required=True, metavar="PNG")
    parser.add_argument("--seed", type=int, default=0, help="of the masks; default 0")


def run(args: argparse.Namespace):
    """Reads the images, predicts, writes the sheet."""
    out = check_out(args.out, (".png", ".PNG"))
    missing = [name for name in args.images if not pathlib.Path(name).is_file()]
    if missing:
        raise UserError(f"--images: no such file: {', '.join(missing)}")
    from maskjax import evaluation
    from maskjax.observe.pictures import save_png

    run = open_run(args)
    batch = evaluation.images_batch(run.config, args.images)
    sheet = evaluation.reconstruction(run, batch, args.seed)
    save_png(out, sheet)
    print(f"{out}: {len(args.images)} image(s), {run.weights}")
