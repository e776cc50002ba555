"""Distances between the features of a student and those of its teacher."""

from typing import Literal, get_args

import chex
import jax.numpy as jnp
from jax import Array

Distance = Literal["l1", "l2", "smooth_l1"]
DISTANCES = get_args(Distance)


def feature_error(prediction: Array, target: Array, distance: Distance = "l2") -> Array:
    """Mean over the channels of a distance, float32[...]: one value for each token.

    Args:
        prediction: float[..., D], of the student.
        target: float[..., D]; the caller stops its gradient.
        distance: of d = prediction - target: "l1", |d|; "l2", d^2; "smooth_l1", d^2 / 2 where
            |d| < 1 and |d| - 1/2 elsewhere (Girshick 2015, eq. 3).

    Raises:
        ValueError: for an unknown distance.
    """
    chex.assert_equal_shape((prediction, target))
    difference = jnp.abs(prediction.astype(jnp.float32) - target.astype(jnp.float32))
    if distance == "l1":
        values = difference
    elif distance == "l2":
        values = jnp.square(difference)
    elif distance == "smooth_l1":
        values = jnp.where(difference < 1, jnp.square(difference) / 2, difference - 0.5)
    else:
        raise ValueError(f"distance must be one of {', '.join(DISTANCES)}, got {distance!r}")
    return values.mean(-1)
