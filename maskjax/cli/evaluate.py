"""Score a run beside its baselines, and write its report.

  maskjax evaluate --workdir=runs/demo --evaluators=knn,linear_probe

Every accuracy is printed with that of raw pixels and of the untrained network: without them it
cannot be read. Writes scores.json, pictures/ and report.html into the workdir.
"""

import argparse

from maskjax.cli.run_arguments import add_run_arguments, open_run


def add_arguments(parser: argparse.ArgumentParser):
    """Arguments of `maskjax evaluate`."""
    add_run_arguments(parser)
    parser.add_argument(
        "--evaluators",
        metavar="NAMES",
        help="comma-separated: knn, linear_probe, rank, reconstruction, held_out;"
        " default config.evaluate.evaluators",
    )


def run(args: argparse.Namespace):
    """Evaluates, prints the table, writes the report."""
    from maskjax.evaluate.evaluators import check_names

    names = tuple(filter(None, args.evaluators.split(","))) if args.evaluators else ()
    check_names(names)
    run = open_run(args)
    from maskjax.evaluate.scores import print_scores, write_scores
    from maskjax.evaluation import default_names, scores_of_run
    from maskjax.observe.report import write_report
    from maskjax.observe.writers import PictureWriter

    scores = []
    names = names or default_names(run.config)
    for score in scores_of_run(run, names, PictureWriter(args.workdir)):
        scores.append(score)
        print(f"{score.name}, {score.weights}: {score.shown()}", flush=True)
    print()
    print_scores(scores)
    write_scores(args.workdir, scores)
    print(f"\nreport: {write_report(args.workdir)}")
