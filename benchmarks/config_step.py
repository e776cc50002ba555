"""The training step of any config as a contestant of `rounds.py`, or in this process.

Started with {"config": "mim/mae:b16", "overrides": ["model.mask_ratio=0.5"], "batch": 8,
"name": ..., "core": ...}; one unit of work is a step on one synthetic batch.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from rounds import HERE, serve

IMAGES = 1_281_167  # of ImageNet-1k; a step does not depend on it

# ViT-Tiny's width and a light decoder: what is left of any config when it is brought to one size.
SIZE = {
    "model.encoder.dim": 192,
    "model.encoder.depth": 6,
    "model.encoder.heads": 3,
    "model.decoder.dim": 128,
    "model.decoder.depth": 2,
    "model.decoder.heads": 4,
}


def experiment(spec: str, overrides: Sequence[str], batch: int, size: dict[str, int] | None = None):
    """The experiment of a config on the first device, at one size.

    Args:
        spec: such as "mim/mae:b16".
        overrides: "key=value", without "--config.".
        batch: examples in a step.
        size: entries to set where the config has them.
    """
    import jax

    from maskjax import build
    from maskjax.config import load_config

    config, _ = load_config(spec, [f"--config.{given}" for given in overrides])
    with config.unlocked():
        for key, value in (size or {}).items():
            section, _, name = key.rpartition(".")
            parent = config
            for part in section.split("."):
                parent = parent.get(part) or {}
            if name in parent:
                parent[name] = value
        config.data.global_batch = batch
        config.mesh.update(dict.fromkeys(config.mesh, 1))
    return build.experiment(config, IMAGES, jax.devices()[:1])


def synthetic_batch(parts: Any) -> dict[str, Any]:
    """Made-up values in the shapes that the config's data would have, on the device."""
    import jax
    import numpy as np

    from maskjax.data_parts import example_batch

    rng, size = np.random.default_rng(0), parts.config.data.global_batch

    def fill(leaf: Any) -> Any:
        if np.issubdtype(leaf.dtype, np.floating):
            return rng.normal(size=leaf.shape).astype(leaf.dtype)
        top = 256 if leaf.dtype == np.uint8 else 2
        return rng.integers(0, top, leaf.shape).astype(leaf.dtype)

    batch = jax.tree.map(fill, example_batch(parts.config, size))
    batch["position"] = np.stack([np.zeros(size), np.arange(size)], 1).astype(np.uint32)
    return jax.device_put(batch)


def runner(parts: Any) -> Callable[[int], None]:
    """run(n): n steps, one after another, and waits for the last."""
    import jax

    batch, step, state = synthetic_batch(parts), parts.step(), parts.init()
    static = parts.method.static(0)

    def run(steps: int):
        nonlocal state
        for _ in range(steps):
            state, _ = step(state, batch, static)
        jax.block_until_ready(state)

    return run


def prepare(task: dict[str, Any]) -> tuple[Callable[[int], None], dict[str, str]]:
    """The contestant's side."""
    import record

    from maskjax.train import host_memory

    host_memory.keep_freed_memory()
    parts = experiment(task["config"], task["overrides"], task["batch"], task.get("size"))
    run = runner(parts)
    run(2)
    return run, record.versions()


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))
    serve(prepare)
