"""Distance between sets of points."""

import chex
import jax.numpy as jnp
from jax import Array


def chamfer(prediction: Array, target: Array) -> Array:
    """Chamfer-L2: mean squared distance to the nearest point of the other set, both ways, added.

    Fan, Su, Guibas, "A Point Set Generation Network", CVPR 2017, with means for sums, as the
    point-cloud MAEs have it. The order of the points does not matter.

    Args:
        prediction: float[..., P, 3].
        target: float[..., Q, 3].

    Returns:
        float32[...], one value for each pair of sets.
    """
    chex.assert_axis_dimension(prediction, -1, target.shape[-1])
    a, b = prediction.astype(jnp.float32), target.astype(jnp.float32)
    squares = jnp.square(a[..., :, None, :] - b[..., None, :, :]).sum(-1)
    return squares.min(-1).mean(-1) + squares.min(-2).mean(-1)
