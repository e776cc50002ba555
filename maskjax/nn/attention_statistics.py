"""How far attention looks, and how much it depends on who asks."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


def attention_distance(attention: Array, grid: tuple[int, int], *, num_prefix: int = 1) -> Array:
    """Mean distance between a patch and those that it attends to, in patches (Raghu et al. 2021).

    Args:
        attention: float[..., T, T], after the softmax: queries, keys.
        grid: (rows, columns) of the patches, which are listed in raster order.
        num_prefix: tokens in front of the patches, which are left out; the weights of the others
            are scaled to a sum of 1.

    Returns:
        float32[...].
    """
    patches = attention[..., num_prefix:, num_prefix:].astype(jnp.float32)
    chex.assert_axis_dimension(patches, -1, grid[0] * grid[1])
    place = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), -1).reshape(-1, 2)
    distance = np.linalg.norm(place[:, None] - place, axis=-1).astype(np.float32)
    total = jnp.maximum(patches.sum(-1), 1e-12)
    return ((patches * distance).sum(-1) / total).mean(-1)


def mutual_information(attention: Array) -> Array:
    """Normalised mutual information of queries and keys, in [0, 1] (Park et al. 2023).

    With queries drawn uniformly and keys by the attention: I(query, key) / sqrt(H(query) H(key)).
    0 where all queries look at the same keys (collapse); 1 where each one looks at a key of its
    own.

    Args:
        attention: float[..., T, T], after the softmax: queries, keys.

    Returns:
        float32[...].
    """
    given = attention.astype(jnp.float32)
    keys = given.mean(-2)
    entropy = lambda p: -jax.scipy.special.xlogy(p, p).sum(-1)  # noqa: E731
    of_keys, of_queries = entropy(keys), np.log(given.shape[-2])
    information = of_keys - entropy(given).mean(-1)
    return information / jnp.sqrt(jnp.maximum(of_keys * of_queries, 1e-12))
