"""Train several experiments on the same data, seeds and budget; write one page about them.

  maskjax compare --configs=mim/mae:demo,mim/hpm:demo --budget=examples:96000 --seeds=0,1,2 \\
    --out=runs/compare --config.data.path=photo_crops

Budgets: examples:N (images seen), flops:N (of all training steps, by formula), minutes:N (at the
step time measured before). Each run is a folder of its own below --out, as `maskjax train` and
`maskjax evaluate` make them; the same command goes on where it was stopped. Writes compare.html
(curves, scores with mean and spread over the seeds, cost, pictures), compare.md and compare.json.
"""

import argparse

from maskjax.errors import UserError


def add_arguments(parser: argparse.ArgumentParser):
    """Arguments of `maskjax compare`."""
    parser.add_argument("--configs", required=True, metavar="A[:ARG],B[:ARG],...")
    parser.add_argument(
        "--budget", required=True, metavar="KIND:N", help="examples, flops, minutes"
    )
    parser.add_argument("--seeds", default="0", metavar="LIST", help="comma-separated; default 0")
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument(
        "--evaluators",
        default="knn,linear_probe,reconstruction",
        metavar="NAMES",
        help="comma-separated; default knn,linear_probe,reconstruction",
    )
    parser.set_defaults(overrides=[])


def run(args: argparse.Namespace):
    """Plans all runs before the first one starts, then trains, scores and writes the page."""
    from maskjax.comparison import compare, parse_budget
    from maskjax.evaluate.evaluators import check_names

    specs = [spec for spec in args.configs.split(",") if spec]
    if len(specs) != len(set(specs)) or not specs:
        raise UserError(f"--configs={args.configs}: name each experiment once, with commas between")
    try:
        seeds = [int(seed) for seed in args.seeds.split(",")]
    except ValueError:
        raise UserError(f"--seeds={args.seeds}: whole numbers with commas between") from None
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UserError(f"--seeds={args.seeds}: different numbers, none of them negative")
    names = tuple(filter(None, args.evaluators.split(",")))
    check_names(names)
    budget = parse_budget(args.budget)
    page = compare(specs, seeds, budget, names, args.out, tuple(args.overrides))
    print(f"\n{page.with_suffix('.md').read_text()}\npage: {page}")
