"""Channel mean and standard deviation of an image set, in 0..1 units, ready for a config."""

import argparse


def add_arguments(parser: argparse.ArgumentParser):
    """Arguments of `maskjax data-stats`."""
    parser.add_argument(
        "--data", required=True, metavar="SPEC", help="photo_crops, folder:DIR, ..."
    )
    parser.add_argument("--split", default="train", help="default: train")
    parser.add_argument("--limit", type=int, help="use the first N images only")


def run(args: argparse.Namespace):
    """Prints the two config entries."""
    from maskjax.data import stats

    found = stats.run(args.data, args.split, args.limit)
    mean, std = (tuple(round(float(v), 4) for v in found[key]) for key in ("mean", "std"))
    print(f"{found['images']} of {found['of']} images of {args.data} ({args.split})")
    print(f"config.model.mean = {mean}\nconfig.model.std = {std}")
