"""Train a method, or resume the run in --workdir.

  maskjax train --config=configs/mim/mae.py:tiny --workdir=runs/tiny
  maskjax train --config=mim/mae:l16 --config.data.path=folder:/data/imagenet --workdir=runs/l16

Any entry of the config can be overridden as --config.key=value. A workdir with checkpoints of the
same config is resumed: same data order, same masks. Ctrl-C or SIGTERM saves before leaving.
"""

import argparse
import logging
import pathlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ml_collections import ConfigDict


def add_arguments(parser: argparse.ArgumentParser):
    """Arguments of `maskjax train`."""
    parser.add_argument("--config", required=True, metavar="FILE[:ARG]", help="experiment, variant")
    parser.add_argument("--workdir", required=True, metavar="DIR", help="folder of the run")
    parser.set_defaults(overrides=[])


def run(args: argparse.Namespace) -> int:
    """Loads the config and trains; the exit code is 128 + the signal that stopped the run."""
    from maskjax.config import load_config

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for noisy in ("absl", "jax", "orbax"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    config, overrides = load_config(args.config, args.overrides)
    return train(config, args.workdir, overrides)


def train(config: "ConfigDict", workdir: str, overrides: dict[str, Any] | None = None) -> int:
    """Trains what `config` describes in `workdir`; for scripts and tests as well.

    Returns:
        0, or 128 + the number of the signal that stopped the run (130 = Ctrl-C, 143 = SIGTERM).

    Raises:
        UserError: for a config, data or workdir that does not fit; before anything is compiled.
    """
    from maskjax import build
    from maskjax.config import FREE_KEYS
    from maskjax.observe import run_files
    from maskjax.train import runtime
    from maskjax.session import Session

    resolved = config.to_dict()
    run_files.check_same_config(workdir, resolved, FREE_KEYS)
    runtime.enable_compile_cache()
    source = build.data_source(config, "train")
    build.check_example(config, source)
    parts = build.experiment(config, len(source))
    parts.check_step()
    run_files.write_config(workdir, resolved, overrides or {})
    with Session(parts, source, pathlib.Path(workdir)) as session:
        return session.train()
