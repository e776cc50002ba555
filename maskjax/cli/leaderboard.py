"""Put many runs side by side: scores, and what they cost.

  maskjax leaderboard --runs runs/compare runs/mae --scores=top1,linear_probe --out=runs/board

Every folder with a run in it, however deep below --runs, is a row. Scores come from `maskjax
evaluate` (scores.json) and from evaluations during training. Prints the table, best of the first
score first, and writes leaderboard.html (each score over images, FLOPs and minutes), .md and .json.
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser):
    """Arguments of `maskjax leaderboard`."""
    parser.add_argument("--runs", required=True, nargs="+", metavar="DIR")
    parser.add_argument(
        "--scores", default="", metavar="NAMES", help="comma-separated; default the usual ones"
    )
    parser.add_argument("--out", default="leaderboard", metavar="DIR", help="default leaderboard")


def run(args: argparse.Namespace):
    """Reads, prints, writes."""
    from maskjax.observe import leaderboard

    runs = [leaderboard.read_run(folder) for folder in leaderboard.find_runs(args.runs)]
    names = tuple(filter(None, args.scores.split(",")))
    path, text = leaderboard.write(runs, args.out, names)
    print(f"{text}\npage: {path}")
