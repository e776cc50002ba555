"""A run from its folder: config, method and weights, for evaluation, export and pictures."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from maskjax import build
from maskjax.config import restored_config
from maskjax.errors import UserError
from maskjax.interop.encode import encode_function, load_encoder
from maskjax.masking import Draws
from maskjax.method import Tree
from maskjax.nn.families import AnyGeometry
from maskjax.observe import run_files
from maskjax.train.checkpoint import Checkpoints
from maskjax.train.state import TrainState

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
    def settings(self) -> dict[str, Any]:
        """What an exported file keeps beside the weights: mean, std, mask ratio, method, step."""
        facts = self.parts.method.describe.items()
        own = {"method": self.config.method, "step": str(self.step)}
        return {k: v for k, v in facts if k not in ("geometry", "grid")} | own

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
    parts = parts_of(config)
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


def parts_of(config: ConfigDict) -> build.Experiment:
    """The parts of a run whose data need not be on this machine."""
    return build.experiment(config, num_examples=_MANY)


def write_run(
    workdir: str | pathlib.Path,
    parts: build.Experiment,
    state: TrainState,
    overrides: Mapping[str, Any],
):
    """A run's folder with one checkpoint, of `state`; the other commands read it."""
    workdir = pathlib.Path(workdir)
    resolved = parts.config.to_dict()
    run_files.write_config(workdir, resolved, overrides)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        checkpoints.save(int(state.step), state, 0, {"config": resolved}, force=True)
        checkpoints.wait()


def load(
    path: str | os.PathLike,
    *,
    step: int | None = None,
    ema: bool = False,
    geometry: AnyGeometry | None = None,
    format: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> tuple[dict[str, Callable], Tree, dict[str, Any]]:
    """Functions, parameters and facts, of a run or of weights from anywhere.

    Args:
        path: folder of a run; or a file or folder of weights in any layout of docs/weights.md.
        step, ema: which weights of a run.
        geometry: of weights that do not say it themselves.
        format: of weights; None = told by the file.
        mean, std: of pixels in 0..1 by channel, for weights that do not say them.

    Returns:
        ({name: (params, images) -> {name: Array}}, params, metadata). Images are [B, H, W, C], or
        [B, T, H, W, C] for video: uint8, or float and standardised. "encode" is always there and
        gives "cls" (if there is a class token), "mean" and "tokens", after the final norm; a run
        has its method's other functions as well, with masks drawn by row.

    Raises:
        UserError: if there is nothing to read, or it does not fit.
    """
    if (pathlib.Path(path) / "checkpoints").is_dir():
        return load_run(open_run(path, step=step, ema=ema))
    params, report, stats = load_encoder(path, geometry, format)
    stats |= {k: tuple(v) for k, v in (("mean", mean), ("std", std)) if v is not None}
    facts = {"layout": report.layout, "geometry": report.geometry, "report": report, **stats}
    return {"encode": encode_function(report.geometry, stats)}, params, facts


def load_run(run: SavedRun) -> tuple[dict[str, Callable], Tree, dict[str, Any]]:
    """What `load` returns, of a run that is open."""

    def simple(fn: Callable) -> Callable:
        @jax.jit
        def call(params: Tree, images: jax.Array) -> dict[str, jax.Array]:
            rows = jnp.arange(images.shape[0], dtype=jnp.uint32)
            draws = Draws.keyed(jax.random.key(0), jnp.stack([jnp.zeros_like(rows), rows], 1))
            return fn(params, run.extra, {"image": images}, draws)

        return lambda params, images: call(params, jnp.asarray(images))

    functions = {name: simple(fn) for name, fn in run.parts.method.predict.items()}
    return functions, run.params, {**run.parts.method.describe, **run.settings}


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
