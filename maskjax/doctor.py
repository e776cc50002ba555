"""The checks of `maskjax doctor`: each returns a line, or raises what is wrong."""

import importlib.metadata
import math
import platform
import time

import jax
import jax.numpy as jnp
import numpy as np

from maskjax import build, data_parts, masking
from maskjax.config import load_config
from maskjax.train import runtime, sharding

PACKAGES = ("maskjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def versions() -> str:
    """Python and the packages that matter."""
    found = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    return ", ".join([f"Python {platform.python_version()}", *found])


def devices() -> str:
    """Processes, devices, default mesh."""
    return runtime.device_report(sharding.make_mesh({"data": -1}))


def gather_gradient() -> str:
    """Gradient of `tokens.gather` against the one-hot matmul, jitted, on this device.

    Some compilers have returned wrong rows for the gradient of a gather.

    Raises:
        ArithmeticError: if the two differ.
    """
    x = jax.random.normal(jax.random.key(0), (4, 16, 8))
    split = masking.random(jax.random.uniform(jax.random.key(1), (4, 16)), 16, num_visible=5)

    def loss(x, method):
        picked = masking.tokens.gather(x, split.visible_ids, method=method)
        return jnp.sum(picked * jnp.arange(1.0, 6.0)[:, None])

    gradients = [
        np.asarray(jax.jit(jax.grad(loss), static_argnums=1)(x, m)) for m in ("take", "onehot")
    ]
    worst = float(np.abs(gradients[0] - gradients[1]).max())
    if worst > 1e-5:
        raise ArithmeticError(f"gradients differ by {worst}; use tokens.gather(method='onehot')")
    return f"equal to {worst:.1e}"


def tiny_step() -> str:
    """One sharded training step of MAE's tiny config over all devices.

    Raises:
        ArithmeticError: if the loss is not finite.
    """
    config, _ = load_config("mim/mae:tiny")
    with config.unlocked():
        shards = jax.device_count()
        config.data.global_batch = math.ceil(config.data.global_batch / shards) * shards
    start = time.perf_counter()
    parts = build.experiment(config, num_examples=1000)
    rows = sharding.batch_sharding(parts.mesh)
    example = data_parts.example_batch(config, config.data.global_batch)
    batch = {k: jax.device_put(np.ones(v.shape, v.dtype), rows) for k, v in example.items()}
    _, metrics = parts.step()(parts.init(), batch)
    loss = float(metrics["loss"])
    if not math.isfinite(loss):
        raise ArithmeticError(f"the loss of the first step is {loss}")
    return f"loss {loss:.4f}, {time.perf_counter() - start:.1f} s with compilation"


CHECKS = {
    "versions": versions,
    "devices": devices,
    "gather gradient": gather_gradient,
    "tiny step": tiny_step,
}
