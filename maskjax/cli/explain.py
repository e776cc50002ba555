"""Explain what a classifier sees, or test how it takes to missing pixels.

  maskjax explain --workdir=runs/cnn --masking=layer,grey --image=cat.jpg --out=cat.png
  maskjax explain --workdir=runs/cnn --method=removal --out=removal.csv
  maskjax explain --workdir=runs/cnn --method=shape --out=shape.csv

--workdir is a run of explain/layer_masking, trained or imported. Ways of hiding pixels (--masking,
by comma; default all that the network knows): layer (layer masking), zero and partial (its
ablations), grey, black, blur (painted over), drop (tokens left out; ViT).

lime      LIME on super-pixels: a picture, and a CSV of the same name with a row a segment
removal   test A: accuracy and unchanged predictions while more and more of test images is hidden
shape     test B: accuracy with the object hidden, and with a region of its area without its shape
scores    test C: LIME on a grid, a quarter of its cells as the explanation, against the object
linearity test D: the sum over four visible patches against all four at once
"""

import argparse
import pathlib

from maskjax.cli.run_arguments import add_run_arguments, check_out, open_run
from maskjax.errors import UserError

TESTS = ("removal", "shape", "scores", "linearity")


def add_arguments(parser: argparse.ArgumentParser):
    """Arguments of `maskjax explain`."""
    add_run_arguments(parser)
    parser.add_argument("--method", choices=("lime", *TESTS), default="lime", help="default: lime")
    parser.add_argument("--masking", default="", metavar="NAMES", help="by comma; default all")
    parser.add_argument("--image", metavar="FILE", help="lime: what is explained")
    parser.add_argument("--out", required=True, metavar="FILE", help=".png (lime) or .csv (tests)")
    parser.add_argument("--label", type=int, metavar="N", help="lime: class; default the predicted")
    segments = "lime: slic (default), quickshift (both need scikit-image) or grid"
    parser.add_argument("--segments", default="slic", metavar="KIND", help=segments)
    cells = "lime: about so many segments; removal, scores: cells on a side (default 50; 8)"
    parser.add_argument("--cells", type=int, default=0, metavar="N", help=cells)
    parser.add_argument("--samples", type=int, default=512, metavar="N", help="lime: perturbations")
    parser.add_argument("--images", type=int, default=512, metavar="N", help="tests: so many")
    parser.add_argument("--seed", type=int, default=0, help="of the perturbations; default 0")


def run(args: argparse.Namespace):
    """Runs the method, prints and writes what it found."""
    lime = args.method == "lime"
    out = check_out(args.out, (".png",) if lime else (".csv",))
    if lime and not args.image:
        raise UserError("--method=lime needs --image=FILE")
    if lime and not pathlib.Path(args.image).is_file():
        raise UserError(f"--image: no such file: {args.image}")
    for name in ("samples", "images"):
        if getattr(args, name) < 2:
            raise UserError(f"--{name} must be 2 or more")
    from maskjax import explanation

    run = open_run(args)
    names = tuple(filter(None, args.masking.split(",")))
    if not lime:
        options = {"num": args.images, "seed": args.seed}
        options |= {"side": args.cells} if args.cells else {}
        rows = explanation.test(run, args.method, names, **options)
        print(explanation.write_table(out, rows))
        print(f"{out}: {args.method}, {run.weights}")
        return
    options = {"label": args.label, "kind": args.segments, "cells": args.cells or 50}
    options |= {"num": args.samples, "seed": args.seed}
    found = explanation.lime(run, args.image, names, **options)
    table = found.write(out)
    print(f"{out} and {table}: {found.title}")
