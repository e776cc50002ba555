"""What every method that trains must hold, on the `:tiny` variant of its config."""

import functools
import signal

import jax
import numpy as np
import pytest
import runs
from ml_collections import ConfigDict

from maskjax import build
from maskjax.config import config_folder, load_config
from maskjax.data.train import train_iterator
from maskjax.data_parts import data_source, train_transform
from maskjax.train import sharding
from maskjax.train.feed import to_devices

CONFIGS = sorted(
    str(path.relative_to(config_folder()).with_suffix(""))
    for path in config_folder().glob("*/*.py")
    if path.stem != "__init__" and not path.stem.startswith("_")
)


@functools.cache
def tiny(name: str, *overrides: str) -> ConfigDict:
    """The config with overrides."""
    return load_config(f"{name}:tiny", [f"--config.{override}" for override in overrides])[0]


def losses_of(config: ConfigDict, devices, steps: int) -> tuple[list[dict], object]:
    """Metrics of the first steps and the last state."""
    source = data_source(config, "train")
    parts = build.experiment(config, len(source), devices)
    step, state, seen = parts.step(), parts.init(), []
    options = {"seed": config.seed, "global_batch": config.data.global_batch}
    with train_iterator(source, train_transform(config), **options) as batches:
        for index in range(steps):
            batch = to_devices(next(batches), sharding.batch_sharding(parts.mesh))
            state, metrics = step(state, batch, parts.method.static(index))
            scalars = {name: value for name, value in metrics.items() if not value.ndim}
            seen.append({name: float(value) for name, value in scalars.items()})
    return seen, state


@pytest.mark.parametrize("name", CONFIGS)
def test_sharded_equals_unsharded_and_micro_batches_change_nothing(name):
    coupled = build.experiment(tiny(name), 100, jax.devices()[:1]).method.coupled
    one, _ = losses_of(tiny(name), jax.devices()[:1], 3)
    options = ["mesh.fsdp=2"] + ([] if coupled else ["train.accumulate=2"])
    many, state = losses_of(tiny(name, *options), jax.devices(), 3)
    for single, sharded in zip(one, many, strict=True):
        assert single.keys() == sharded.keys()
        for key in single:
            assert sharded[key] == pytest.approx(single[key], rel=2e-4, abs=1e-6), key
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(state.params)))


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_the_loss_falls_on_real_images_and_resume_is_exact(name, tmp_path):
    """Through the command: a whole run, and one that was stopped and resumed."""
    config = f"--config={config_folder() / name}.py:tiny"
    assert runs.train(tmp_path / "whole", "train.steps=40", config=config) == 0
    stopped = tmp_path / "stopped"
    with runs.signal_when(lambda: len(runs.lines(stopped)) >= 8, signal.SIGTERM):
        assert runs.train(stopped, "train.steps=40", config=config) == 143
    assert runs.train(stopped, "train.steps=40", config=config) == 0
    assert runs.exact(stopped) == runs.exact(tmp_path / "whole")
    losses = list(runs.losses(stopped).values())
    assert np.mean(losses[-5:]) < 0.95 * np.mean(losses[:3])
