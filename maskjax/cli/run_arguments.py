"""The arguments of every command that opens a finished run."""

import argparse
import os
import pathlib
from collections.abc import Sequence

from maskjax.errors import UserError

# The names of `interop.layouts.FORMATS`, which `--help` must not import (a test holds them equal).
FORMATS = (
    *(
        "mae",
        "timm",
        "hf",
        "mmpretrain",
        "deit",
        "dino",
        "hf_vit",
        "hf_deit",
        "dinov2",
        "hf_dinov2",
    ),
    *("clip", "hf_clip", "beit", "simmim", "cae", "hf_beit", "videomae", "hf_videomae"),
    *("resnet", "swin", "timm_swin", "hf_swin", "convnext", "timm_convnext"),
)


def add_run_arguments(parser: argparse.ArgumentParser):
    """--workdir, --step, --ema."""
    parser.add_argument("--workdir", required=True, metavar="DIR", help="folder of a training run")
    parser.add_argument("--step", type=int, metavar="N", help="checkpoint; default the latest")
    parser.add_argument(
        "--ema", action="store_true", help="moving average of the weights (config.optim.ema)"
    )


def add_process_arguments(parser: argparse.ArgumentParser):
    """--coordinator-address, --num-processes, --process-id and the time-outs of a start."""
    group = parser.add_argument_group(
        "several processes",
        "Found out by themselves on Cloud TPU, GKE, Slurm, Open MPI and Kubernetes; else from\n"
        "these, or JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID. See launch/.",
    )
    group.add_argument("--coordinator-address", metavar="HOST:PORT", help="of process 0")
    group.add_argument("--num-processes", type=int, metavar="N", help="1 = this one alone")
    group.add_argument("--process-id", type=int, metavar="I", help="0 .. N - 1")
    group.add_argument(
        "--start-timeout", type=float, default=300, metavar="S", help="to wait for all; 300"
    )
    group.add_argument(
        "--heartbeat-timeout",
        type=float,
        default=100,
        metavar="S",
        help="of silence, after which a process is dead and the others end; 100",
    )


def start_processes(args: argparse.Namespace):
    """Joins the other processes of the run, if there are any."""
    from maskjax.train import processes

    place = processes.find(args.coordinator_address, args.num_processes, args.process_id)
    processes.start(place, args.start_timeout, args.heartbeat_timeout)


def open_run(args: argparse.Namespace):
    """The `SavedRun` that the arguments name."""
    from maskjax import saved
    from maskjax.train import runtime

    runtime.enable_compile_cache()
    return saved.open_run(args.workdir, step=args.step, ema=args.ema)


def check_out(out: str, suffixes: Sequence[str]) -> pathlib.Path:
    """The path of --out, before anything slow begins.

    Raises:
        UserError: for another suffix, or a folder that is not there or cannot be written to.
    """
    path = pathlib.Path(out)
    if path.suffix not in suffixes:
        raise UserError(f"--out={out}: the name must end in {' or '.join(suffixes)}")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise UserError(f"--out={out}: the folder {folder} does not exist")
    if path.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"--out={out}: cannot be written")
    return path
