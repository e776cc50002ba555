"""Write features of any image set to a table, one row an image, with its id.

  maskjax embed --workdir=runs/demo --data=folder:/data/pets --split=test --out=pets.parquet

Columns: id, label (if there are labels), cls and mean: features of the class token, and the mean
over patch tokens, after the final norm. Images are resized and centre-cropped as in evaluation.
"""

import argparse

from maskjax.cli.run_arguments import add_run_arguments, check_out, open_run


def add_arguments(parser: argparse.ArgumentParser):
    """Arguments of `maskjax embed`."""
    add_run_arguments(parser)
    parser.add_argument(
        "--data", required=True, metavar="SPEC", help="photo_crops, folder:DIR, ..."
    )
    parser.add_argument("--split", default="test", help="default: test")
    parser.add_argument("--out", required=True, metavar="FILE", help=".parquet or .npz")


def run(args: argparse.Namespace):
    """Extracts and writes."""
    out = check_out(args.out, (".parquet", ".npz"))
    from maskjax import features_file

    run = open_run(args)
    table = features_file.embed(run, args.data, args.split)
    features_file.write(out, table)
    print(f"{out}: {len(table['id']):,} images, {table['mean'].shape[1]} features, {run.weights}")
