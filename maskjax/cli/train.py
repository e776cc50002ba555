"""Train a method, or resume the run in --workdir.

  maskjax train --config=configs/mim/mae.py:tiny --workdir=runs/tiny
  maskjax train --config=mim/mae:l16 --config.data.path=folder:/data/imagenet --workdir=runs/l16

Any entry of the config can be overridden as --config.key=value. A workdir with checkpoints of the
same config is resumed: same data order, same masks. Ctrl-C or SIGTERM, of several processes to any
of them, saves before leaving.
Exit codes: 0 done, 1 failed, 2 wrong input, 130 Ctrl-C, 143 SIGTERM, 75 start all processes again.
"""

import argparse
import logging
import pathlib
import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

from maskjax.cli.run_arguments import add_process_arguments, start_processes
from maskjax.errors import UserError

if TYPE_CHECKING:
    from ml_collections import ConfigDict


class _StderrHandler(logging.StreamHandler):
    """Writes to what `sys.stderr` is at the moment: under a progress bar, a proxy of it."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, value: TextIO):
        """The base class sets it once."""


def add_arguments(parser: argparse.ArgumentParser):
    """Arguments of `maskjax train`."""
    parser.add_argument("--config", required=True, metavar="FILE[:ARG]", help="experiment, variant")
    parser.add_argument("--workdir", required=True, metavar="DIR", help="folder of the run")
    parser.set_defaults(overrides=[])
    parser.add_argument(
        "--extend",
        action="store_true",
        help="go on with a run to another train.steps or train.epochs than it was begun with",
    )
    add_process_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Loads the config and trains; the exit code is 128 + the signal that stopped the run."""
    began = time.monotonic()
    # Before absl comes in with other imports: it would set up a handler of its own.
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[_StderrHandler()])
    from maskjax.config import load_config
    from maskjax.train import processes

    for noisy in ("absl", "jax", "orbax"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    config, overrides = load_config(args.config, args.overrides)
    start_processes(args)
    if not processes.first():
        logging.getLogger().setLevel(logging.WARNING)
    return train(config, args.workdir, overrides, began, extend=args.extend)


def train(
    config: "ConfigDict",
    workdir: str,
    overrides: dict[str, Any] | None = None,
    began: float | None = None,
    *,
    extend: bool = False,
) -> int:
    """Trains what `config` describes in `workdir`; for scripts and tests as well.

    Args:
        config: resolved.
        workdir: folder of the run.
        overrides: what of the config came from the command line.
        began: when the command began, in seconds of `time.monotonic`; default now.
        extend: the length of the run may differ from the one it was begun with.

    Returns:
        0, or 128 + the number of the signal that stopped the run (130 = Ctrl-C, 143 = SIGTERM).

    Raises:
        UserError: for a config, data or workdir that does not fit; before anything is compiled.
    """
    began = time.monotonic() if began is None else began
    from maskjax import build, data_parts
    from maskjax.observe import run_files
    from maskjax.session import Session
    from maskjax.train import host_memory, processes, runtime, sharding

    _fetch(config, workdir)
    resumed = _check_workdir(config, workdir, extend)
    build.check_settings(config)
    runtime.enable_compile_cache()
    host_memory.keep_freed_memory()
    processes.say(runtime.device_report(sharding.make_mesh(dict(config.mesh))))
    source = data_parts.data_source(config, "train")
    data_parts.check_example(config, source)
    parts = build.experiment(config, len(source) * config.data.views)
    parts.check_step()
    if not resumed:
        parts.check_init()
    if processes.first():
        try:
            run_files.write_config(workdir, config.to_dict(), overrides or {})
        except OSError as error:
            raise UserError(f"--workdir={workdir}: cannot be written: {error.strerror}") from error
    processes.check_shared(pathlib.Path(workdir) / run_files.CONFIG, "--workdir")
    with Session(parts, source, pathlib.Path(workdir), began) as session:
        return session.train()


def _fetch(config: "ConfigDict", workdir: str):
    """An empty workdir begins with the newest copy of the run, if it has a mirror."""
    from maskjax.session import saved_steps
    from maskjax.train import blackboard, processes
    from maskjax.train.mirror import Mirror

    url = config.checkpoint.mirror
    if not url or saved_steps(workdir):
        return
    if processes.first():
        with processes.together(), Mirror(url, pathlib.Path(workdir)) as mirror:
            mirror.pull()
    blackboard.exchange("fetched", 6 * 3600)


def _check_workdir(config: "ConfigDict", workdir: str, extend: bool) -> bool:
    """Whether there is a run to resume; raises UserError if it is another one."""
    from maskjax.config import FREE_KEYS
    from maskjax.observe import run_files
    from maskjax.session import saved_steps

    if not workdir:
        raise UserError("--workdir= is empty; name the folder of the run")
    if "://" in workdir:
        raise UserError(
            f"--workdir={workdir}: a run is kept on a file system: a shared disk, or a bucket that"
            " is mounted as one (gcsfuse); only data is read from buckets directly"
        )
    resolved, resumed = config.to_dict(), saved_steps(workdir)
    length = ("train.steps", "train.epochs") if extend else ()
    run_files.check_same_config(workdir, resolved, (*FREE_KEYS, *length))
    if resumed and not (pathlib.Path(workdir) / run_files.CONFIG).is_file():
        raise UserError(
            f"--workdir={workdir}: has checkpoints but no {run_files.CONFIG}, so they may be of"
            " another config; put it back (checkpoints/<step>/meta holds a copy) or take another"
            " folder"
        )
    return bool(resumed)
