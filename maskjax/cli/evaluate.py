"""Score a run beside its baselines, and write its report.

  maskjax evaluate --workdir=runs/demo --evaluators=knn,linear_probe
  maskjax evaluate --workdir=runs/l16 --follow        # beside the training, on other hardware

Every accuracy is printed with that of raw pixels and of the untrained network: without them it
cannot be read. Writes scores.json, pictures/ and report.html into the workdir.

--follow is a job of its own: it scores each checkpoint that appears and ends after that of the
run's last step. Started again, it leaves out what scores.json holds already. A checkpoint that
training has deleted meanwhile (config.checkpoint.keep_last) is passed over.
"""

import argparse
import time
from collections.abc import Iterator, Sequence

from maskjax.cli.run_arguments import add_run_arguments, open_run
from maskjax.errors import UserError


def add_arguments(parser: argparse.ArgumentParser):
    """Arguments of `maskjax evaluate`."""
    add_run_arguments(parser)
    parser.add_argument(
        "--evaluators",
        metavar="NAMES",
        help="comma-separated: knn, linear_probe, rank, reconstruction, held_out, classify,"
        " low_shot, subset_probe, mae_probe, mlp_probe, linear_svm, completion;"
        " default config.evaluate.evaluators",
    )
    parser.add_argument("--follow", action="store_true", help="score checkpoints as they appear")
    parser.add_argument(
        "--poll", type=float, default=60.0, metavar="SECONDS", help="with --follow; default 60"
    )


def run(args: argparse.Namespace):
    """Evaluates, prints the table, writes the report."""
    from maskjax.evaluate.evaluators import check_names

    names = tuple(filter(None, args.evaluators.split(","))) if args.evaluators else ()
    check_names(names)
    if not args.follow:
        _score(args, names)
        return
    if args.step is not None:
        raise UserError(f"--follow --step={args.step}: it takes every step; leave one of them out")
    if args.poll <= 0:
        raise UserError(f"--poll={args.poll:g}: must be above 0 seconds")
    for step in _new_steps(args):
        args.step = step
        try:
            _score(args, names)
        except UserError as error:
            from maskjax.session import saved_steps

            if step in saved_steps(args.workdir):
                raise
            print(f"step {step} was deleted before it could be scored: {error}", flush=True)


def _score(args: argparse.Namespace, names: Sequence[str]):
    run = open_run(args)
    from maskjax.evaluate.scores import RANDOM_INIT, print_scores, read_scores, write_scores
    from maskjax.evaluation import default_names, scores_of_run
    from maskjax.observe.report import write_report
    from maskjax.observe.writers import PictureWriter

    scores = []
    names = names or default_names(run.config)
    known = args.follow and any(s.weights == RANDOM_INIT for s in read_scores(args.workdir))
    pictures = PictureWriter(args.workdir)
    for score in scores_of_run(run, names, pictures, baselines=not known):
        scores.append(score)
        print(f"{score.name}, {score.weights}: {score.shown()}", flush=True)
    print()
    print_scores(scores)
    write_scores(args.workdir, scores)
    print(f"\nreport: {write_report(args.workdir)}", flush=True)


def _new_steps(args: argparse.Namespace) -> Iterator[int]:
    """Steps of checkpoints without scores as they appear, oldest first, to the run's last step."""
    from maskjax.evaluate.scores import read_scores
    from maskjax.observe.run_files import read_config, read_facts
    from maskjax.session import saved_steps

    read_config(args.workdir)  # raises if there is no run
    done = {score.step for score in read_scores(args.workdir)}
    while True:
        new = [step for step in saved_steps(args.workdir) if step not in done]
        if new:
            done.add(new[0])
            yield new[0]
            continue
        last = read_facts(args.workdir).get("total_steps")
        if last is not None and max(done, default=0) >= last:
            return
        time.sleep(args.poll)
