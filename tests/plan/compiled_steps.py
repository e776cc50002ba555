"""Steps compiled for TPUs and GPUs, each once however many tests look at it."""

import functools

import pytest

from maskjax import build
from maskjax.config import load_config
from maskjax.plan import target as targets
from maskjax.plan.compile import CompiledStep, compile_step, planned
from maskjax.plan.ideal import gathered_shapes

IMAGES = 1_281_167  # of ImageNet-1k; how many there are does not matter to the step


@functools.cache
def compiled(topology: str, config: str, *overrides: str) -> tuple[build.Experiment, CompiledStep]:
    """The experiment `config` with overrides (without "--config.") and its step on a target.

    Skips the test that asks where the target's compiler is not installed.
    """
    package = targets.missing(topology)
    if package:
        pytest.skip(f"cannot compile for {topology}: pip install '{package}' (Linux only)")
    target = targets.target(topology)
    loaded, _ = load_config(config, [f"--config.{override}" for override in overrides])
    parts = build.experiment(planned(loaded, target), IMAGES, target.devices)
    return parts, compile_step(parts, target)


def param_shapes(parts: build.Experiment) -> list[tuple[int, ...]]:
    """Of the parameters on one device, gathered over `fsdp`."""
    return gathered_shapes(parts.abstract_state.params)
