"""The arguments of every command that opens a finished run."""

import argparse


def add_run_arguments(parser: argparse.ArgumentParser):
    """--workdir, --step, --ema."""
    parser.add_argument("--workdir", required=True, metavar="DIR", help="folder of a training run")
    parser.add_argument("--step", type=int, metavar="N", help="checkpoint; default the latest")
    parser.add_argument(
        "--ema", action="store_true", help="moving average of the weights (config.optim.ema)"
    )


def open_run(args: argparse.Namespace):
    """The `SavedRun` that the arguments name."""
    from maskjax import saved
    from maskjax.train import runtime

    runtime.enable_compile_cache()
    return saved.open_run(args.workdir, step=args.step, ema=args.ema)
