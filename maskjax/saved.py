"""A run from its folder: config, method and weights, for evaluation, export and pictures."""

import dataclasses
import pathlib
from collections.abc import Callable

import jax
from ml_collections import ConfigDict

from maskjax import build
from maskjax.config import restored_config
from maskjax.errors import UserError
from maskjax.method import Tree
from maskjax.observe import run_files
from maskjax.train.checkpoint import Checkpoints

# How long an epoch was does not matter any more, and the data may not be on this machine; with
# many examples no warm-up seems longer than the run.
_MANY = 10**9


@dataclasses.dataclass(frozen=True)
class SavedRun:
    """What a finished or running training left behind; read-only.

    Attributes:
        workdir: the run's folder.
        config: as it was resolved then, with the mesh of this machine.
        parts: the method and its mesh here.
        step: which checkpoint.
        params, extra: its weights.
        weights: what they are, in words.
    """

    workdir: pathlib.Path
    config: ConfigDict
    parts: build.Experiment
    step: int
    params: Tree
    extra: Tree
    weights: str

    @property
    def predict(self) -> dict[str, Callable]:
        """Jitted predict functions: (params, extra, batch, draws) -> {name: Array}."""
        return build.jitted_predict(self.parts)


def open_run(
    workdir: str | pathlib.Path, *, step: int | None = None, ema: bool = False
) -> SavedRun:
    """Restores the weights of a checkpoint on all devices of this machine.

    Args:
        workdir: folder of the run.
        step: which checkpoint; None = the latest.
        ema: the moving average of the parameters instead of the parameters.

    Raises:
        UserError: if the folder holds no run, no such checkpoint, or no average.
    """
    workdir = pathlib.Path(workdir)
    config = read_config(workdir)
    # A run from a pod must open on a laptop: only the weights' own sizes matter here.
    config.mesh = ConfigDict({"replica": 1, "data": -1, "fsdp": 1, "tensor": 1})
    parts = build.experiment(config, num_examples=_MANY)
    abstract = parts.abstract_state
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        step = checkpoints.latest_step() if step is None else step
        if step is None:
            raise UserError(
                f"{workdir}: no finished checkpoint yet; train longer or resume the run"
            )
        params, extra, _ = checkpoints.restore_params(
            step, abstract.params, extra=abstract.extra, ema=ema
        )
    weights = f"checkpoint step {step}" + (" (moving average)" if ema else "")
    return SavedRun(workdir, config, parts, step, params, extra, weights)


def read_config(workdir: pathlib.Path) -> ConfigDict:
    """The resolved config of the run in `workdir`, unlocked.

    Raises:
        UserError: if the folder does not hold one.
    """
    path = workdir / run_files.CONFIG
    if not path.is_file():
        raise UserError(f"--workdir={workdir}: no run here ({path} is missing); see maskjax train")
    return restored_config(run_files.read_config(workdir))


def random_weights(run: SavedRun) -> tuple[Tree, Tree]:
    """(params, extra) as they were at step 0 of the run: the baseline of every score."""
    state = run.parts.init()
    return jax.block_until_ready((state.params, state.extra))
