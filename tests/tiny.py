"""The smallest MAE that still has every part, and batches for it."""

import jax
import jax.numpy as jnp
import numpy as np

# No axis of a parameter or of the tokens is a multiple of 7, so that the batch axis (7 * 32, and
# what is left of it on 8 devices) is told apart from every other one in compiled code.
BATCH = 224
MODEL = {
    "image_size": (8, 8),
    "patch_size": 2,
    "encoder": {"dim": 16, "depth": 2, "heads": 2, "mlp_ratio": 2.0},
    "decoder": {"dim": 8, "depth": 1, "heads": 2, "mlp_ratio": 2.0},
}


def positions(num: int, start: int = 0) -> np.ndarray:
    """uint32[num, 2]: (high, low) words of the positions start, start + 1, ..."""
    low = np.arange(start, start + num, dtype=np.uint32)
    return np.stack([np.zeros_like(low), low], axis=1)


def images(num: int, size: tuple[int, int] = (8, 8), channels: int = 3, seed: int = 0):
    """uint8[num, H, W, C]: random gradients with a little noise."""
    rng = np.random.default_rng(seed)
    rows, columns = (np.linspace(-1, 1, length) for length in size)
    slopes = rng.normal(0, 50, (num, 1, 1, channels, 2))
    smooth = rows[:, None, None] * slopes[..., 0] + columns[:, None] * slopes[..., 1]
    noise = rng.normal(128, 15, (num, *size, channels))
    return (smooth + noise).clip(0, 255).astype(np.uint8)


def batch(num: int = BATCH, step: int = 0, **options) -> dict[str, np.ndarray]:
    """The batch that training step `step` would see."""
    return {"image": images(num, seed=step, **options), "position": positions(num, step * num)}


def params(method, example, seed: int = 0):
    """Parameters of the method's shapes with no value at 0 or 1, without running its `init`."""
    tree, _ = jax.eval_shape(method.init, jax.random.key(0), example)
    return filled(tree, seed)


def filled(tree, seed: int = 0):
    """Normal values of the shapes in `tree`; scales lie around 1, all else around 0."""
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        values = rng.normal(0, 0.2, leaf.shape)
        centre = 1.0 if "scale" in str(path[-1]) else 0.0
        return jnp.asarray(values + centre, jnp.float32)

    return jax.tree_util.tree_map_with_path(fill, tree)
