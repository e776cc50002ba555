"""Scores and pictures of a run, beside their baselines."""

import dataclasses
import pathlib
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from maskjax import build, data_parts
from maskjax.errors import UserError
from maskjax.evaluate.evaluator import Inputs, Result
from maskjax.evaluate.evaluators import NEED_LABELS, make_evaluators
from maskjax.evaluate.patch_maps import KINDS
from maskjax.evaluate.scores import RANDOM_INIT, Score
from maskjax.masking import Draws
from maskjax.observe.pictures import reconstruction_sheet
from maskjax.observe.writers import Writer
from maskjax.saved import SavedRun, random_weights
from maskjax.train.ema import ema_params
from maskjax.train.state import TrainState

# The evaluators whose number says little without the same number of an untrained network.
PROBES = ("low_shot", "subset_probe", "mae_probe", "mlp_probe", "linear_svm")
WITH_BASELINE = ("knn", "linear_probe", "rank", *PROBES)
# Evaluators that also run on the moving average of the parameters while training, if there is one.
WITH_AVERAGE = ("classify",)
# Evaluations draw masks from a stream of their own, whatever the training seed is.
MASK_SEED = 0


def scores_of_run(
    run: SavedRun, names: Sequence[str], writer: Writer, *, baselines: bool = True
) -> Iterator[Score]:
    """Raw pixels, random init and the run's weights, evaluator by evaluator; pictures are written.

    Args:
        run: opened run.
        names: evaluators, as `config.evaluate.evaluators`.
        writer: gets the pictures.
        baselines: False = the run's weights only.

    Raises:
        UserError: for an unknown evaluator, or data that cannot be read.
    """
    shared = tuple(name for name in names if name in WITH_BASELINE)
    trained = types.SimpleNamespace(params=run.params, extra=run.extra, step=run.step)
    plans = [(trained, names, run.weights)]
    if shared and baselines:
        params, extra = random_weights(run)
        untrained = types.SimpleNamespace(params=params, extra=extra, step=0)
        pictured = data_parts.data_kind(run.config) != "points"
        pixels = set(shared) & {"knn", "linear_probe"} and pictured
        pixels = ("raw_pixels",) if pixels else ()
        plans.insert(0, (untrained, (*pixels, *shared), RANDOM_INIT))
    predict = run.predict
    for state, chosen, weights in plans:
        inputs = evaluation_inputs(run.config, weights)
        for key, value in _results(run.parts, chosen, inputs, predict, state):
            if isinstance(value, Score):
                yield value
            else:
                writer.image(run.step, key, value)


def default_names(config: ConfigDict) -> tuple[str, ...]:
    """The evaluators of the config, without those that need labels where the data has none."""
    names = tuple(config.evaluate.evaluators)
    if "label" in data_parts.data_source(config, "test")[0]:
        return names
    return tuple(name for name in names if name not in NEED_LABELS)


def evaluate_state(
    parts: build.Experiment, state: TrainState, names: Sequence[str], writer: Writer
) -> dict[str, float]:
    """Runs evaluators on a training state; returns the scores, writes pictures.

    Scores of the parameters' moving average end in "_ema".
    """
    inputs, step = evaluation_inputs(parts.config), int(jax.device_get(state.step))
    predict, scores = build.jitted_predict(parts), {}
    plans = [(state, tuple(names), "")]
    averaged = tuple(name for name in names if name in WITH_AVERAGE)
    if averaged and (average := ema_params(state.opt_state)) is not None:
        plans.append((dataclasses.replace(state, params=average), averaged, "_ema"))
    for weights, chosen, suffix in plans:
        for key, value in _results(parts, chosen, inputs, predict, weights):
            if isinstance(value, Score):
                scores[f"evaluate/{key}{suffix}"] = float(value)
            else:
                writer.image(step, key, value)
    return scores


def _results(
    parts: build.Experiment, names: Sequence[str], inputs: Inputs, predict: Mapping, state: Any
) -> Iterator[Result]:
    facts = parts.method.describe
    sizes = {key: facts[key] for key in ("grid", "vocab") if key in facts}
    options = {
        "reconstruction": {
            "patch_normalized": facts.get("norm_pix", False),
            "grid": facts.get("grid"),
        },
        **{kind.name: sizes for kind in KINDS},
        "raw_pixels": {"of": tuple(names)},
        "classify": {"protocol": _protocol(parts), "pool": facts.get("pool", "")},
    }
    for evaluator in make_evaluators(names, inputs, options=options):
        yield from evaluator.run(predict, state)


def _protocol(parts: build.Experiment) -> str:
    """How a classifier was trained: the protocol's name, then what defines it."""
    config, optim = parts.config, parts.config.optim
    encoder = "frozen" if parts.method.describe.get("freeze") else "trained"
    start = f"from {config.init_from}" if config.init_from else "from random weights"
    epochs = parts.schedule.total_steps / parts.schedule.steps_per_epoch
    length = f"{parts.schedule.total_steps:,} steps"
    length = f"{epochs:.4g} epochs" if config.train.epochs else length
    text = f"encoder {encoder} {start}, {optim.name}, {length} of {config.data.global_batch} images"
    return f"{config.evaluate.protocol or config.method}: {text}"


def evaluation_inputs(config: ConfigDict, weights: str | None = None) -> Inputs:
    """The data that evaluators measure on, by `config.data` and `config.evaluate`."""
    return Inputs(
        data_parts.eval_batches(config, "train"),
        data_parts.eval_batches(config, "test"),
        pool=config.evaluate.pool,
        seed=MASK_SEED,
        weights=weights,
    )


def draws_for(batch: Mapping[str, np.ndarray], seed: int = MASK_SEED) -> Draws:
    """The draws of an evaluation batch."""
    return Draws.keyed(jax.random.key(seed), batch["position"])


def reconstruction(run: SavedRun, batch: Mapping[str, np.ndarray], seed: int) -> np.ndarray:
    """A sheet uint8[H, W, 3] of original, masked, prediction and pasted, of all valid images."""
    valid = batch["valid"]
    images = {name: batch[name] for name in ("image", "position")}
    outputs = run.predict["reconstruct"](run.params, run.extra, images, draws_for(images, seed))
    rows = {name: _host(outputs[name])[valid] for name in ("original", "pixels", "hidden")}
    facts = run.parts.method.describe
    return reconstruction_sheet(
        rows["original"],
        rows["pixels"],
        rows["hidden"],
        grid=facts.get("grid"),
        num_images=int(valid.sum()),
        patch_normalized=facts.get("norm_pix", False),
        title=f"Reconstructions, {run.weights}",
    )


def _host(array: Array) -> np.ndarray:
    return np.asarray(jax.device_get(array))


def images_batch(config: ConfigDict, paths: Sequence[str]) -> dict[str, np.ndarray]:
    """An evaluation batch of image files.

    Raises:
        UserError: for a file that is no image, or a run on data of another kind.
    """
    from maskjax.data.evaluate import evaluation_batches

    if (kind := data_parts.data_kind(config)) != "image":
        raise UserError(f"this run was trained on examples of kind {kind!r}, not on images")
    files = [{"image": pathlib.Path(path).read_bytes(), "id": path} for path in paths]
    shards = jax.device_count()
    size = -(-len(files) // shards) * shards
    return next(evaluation_batches(files, data_parts.eval_transform(config), batch_size=size))
