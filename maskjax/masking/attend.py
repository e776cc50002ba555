"""Attention masks as plain arrays: who may attend to whom (`allow`), and how much.

    allow   bool[..., Q, K], True = attend
    factor  float[..., Q, K], multiplies the scaled scores before the softmax
    gain    float[..., Q, K], multiplies the weights after the softmax; rows need not sum to 1 then

`maskjax.masking.attention_ops` applies them.
"""

import math
from collections.abc import Sequence
from typing import Literal

import chex
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax import Array
from jax.typing import ArrayLike


def causal(num_queries: int, num_keys: int | None = None) -> Array:
    """bool[Q, K]: each token attends to itself and to those before it.

    Args:
        num_queries: Q.
        num_keys: K >= Q, default Q; the queries are the last Q of the K tokens.

    Raises:
        ValueError: if there are fewer keys than queries.
    """
    num_keys = num_queries if num_keys is None else num_keys
    if not 0 < num_queries <= num_keys:
        raise ValueError(f"causal needs 1 <= queries <= keys, got {num_queries} and {num_keys}")
    return jnp.tri(num_queries, num_keys, num_keys - num_queries, dtype=bool)


def chunk_causal(num_chunks: int, chunk_size: int) -> Array:
    """bool[N, N], N = num_chunks * chunk_size: all of the own chunk and of those before it.

    The mask of FIT's global layers (Chen and Li 2023), where a chunk is one group's latents.

    Raises:
        ValueError: unless both sizes are >= 1.
    """
    if num_chunks < 1 or chunk_size < 1:
        raise ValueError(f"num_chunks {num_chunks} and chunk_size {chunk_size} must be >= 1")
    chunk = jnp.arange(num_chunks * chunk_size) // chunk_size
    return chunk[:, None] >= chunk


def valid_keys(valid: Array) -> Array:
    """bool[..., K], False = padding -> allow bool[..., 1, K]: nobody attends to padding.

    Put an axis for the heads in front where there are heads: `valid_keys(valid)[:, None]`.
    """
    chex.assert_type(valid, bool)
    return valid[..., None, :]


def same_owner(owner: Array) -> Array:
    """int[..., N] -> allow bool[..., N, N]: tokens of one owner attend to each other.

    For sequences packed into one row, or images mixed token by token (MixedAE).
    """
    return owner[..., :, None] == owner[..., None, :]


def keep_largest(scores: Array, num_keep: int, *, num_prefix: int = 0) -> Array:
    """allow bool[..., Q, K]: the `num_keep` keys of the largest score of each query.

    Homologous attention of MixedAE (Chen et al. 2023, section 3.2). Tokens in front (cls) are kept
    by all, do not count, and attend to everything, which is our reading of the paper. Keys that
    tie with the last one kept are kept too.

    Args:
        scores: real[..., Q, K]; with a prefix, queries and keys are the same tokens.
        num_keep: K' in 1..K - num_prefix, static.
        num_prefix: how many tokens stand in front.

    Raises:
        ValueError: if `num_keep` is outside its range.
    """
    num_keys = scores.shape[-1] - num_prefix
    if not 1 <= num_keep <= num_keys:
        raise ValueError(f"num_keep must lie in 1..{num_keys} (keys); got {num_keep}")
    own = scores[..., num_prefix:]
    last = jnp.sort(own, axis=-1)[..., num_keys - num_keep, None]
    allow = jnp.pad(
        own >= last, [(0, 0)] * (scores.ndim - 1) + [(num_prefix, 0)], constant_values=True
    )
    return allow.at[..., :num_prefix, :].set(True) if num_prefix else allow


def soft_causal(num_tokens: int, softness: ArrayLike) -> Array:
    """gain float32[N, N]: 1 up to the own token, `softness` after it (iLLaMA, Wang et al. 2024).

    Applied after the softmax and without renormalisation: 1 is plain bidirectional attention; at 0
    a row sums to the attention that falls on the past. That is another model than a causal `allow`.

    Args:
        num_tokens: N.
        softness: float[], in [0, 1]; may be traced, so a schedule needs no recompilation.
    """
    return jnp.where(causal(num_tokens), 1.0, jnp.asarray(softness, jnp.float32))


def soft_causal_schedule(
    step: ArrayLike, *, num_steps: int, kind: Literal["linear", "constant"], start: float = 1.0
) -> Array:
    """Softness float32[...] at optimizer step `step` (counted from 0), 0 from `num_steps` on.

    iLLaMA: "constant" stays at `start` for `num_steps` steps; "linear" falls from `start` to 0 in
    `num_steps` steps, both ends included. Training goes on at 0; the final model is causal.

    Raises:
        ValueError: for an unknown kind or a negative number of steps.
    """
    if num_steps < 0:
        raise ValueError(f"num_steps must be >= 0, got {num_steps}")
    step = jnp.asarray(step, jnp.float32)
    if kind == "linear":
        value = start * (1 - step / max(num_steps - 1, 1))
    elif kind == "constant":
        value = start
    else:
        raise ValueError(f"kind must be 'linear' or 'constant', got {kind!r}")
    return jnp.where(step < num_steps, value, 0.0)


def gaussian_mixture(
    grid: Sequence[int], sigma: Array, alpha: Array, *, eps: float = 1e-5
) -> Array:
    """factor float32[..., N, N]: a locality mask that a sum of Gaussians of the distance makes.

    factor[i, j] = sum over k of alpha_k * exp(-d_ij**2 / (2 * (sigma_k**2 + eps))) with d the
    Euclidean distance of two cells of the grid ("RetNet Viewed through Convolution", 2023, GMM). It
    multiplies the scaled scores before the softmax. The released code takes powers of exp(-d**2),
    which underflows on grids over about 8 x 8; this closed form does not.

    Args:
        grid: number of tokens along each axis (1 to 3 axes); N is their product, in raster order.
        sigma, alpha: float[K, ...], K kernels (5 there), the other axes for example the heads;
            signs are free. Official init: sigma ~ N(10, 10**2), alpha ~ N(0, 2**2).
        eps: added to sigma**2.

    Raises:
        ValueError: for a grid of no or more than 3 axes.
    """
    chex.assert_equal_shape((sigma, alpha))
    if not 1 <= len(grid) <= 3:
        raise ValueError(f"grid must have 1 to 3 axes, got {tuple(grid)}")
    inverse = 0.5 / (jnp.square(sigma.astype(jnp.float32)) + eps)
    heads = sigma.shape[1:]
    mixture = alpha.astype(jnp.float32)[..., None]
    for size in grid[:-1]:  # a Gaussian of the distance is a product over the axes
        along = _gaussians(inverse, size)
        mixture = (mixture[..., None] * along[..., None, :]).reshape(*sigma.shape, -1)
    # The sum over the kernels is a matmul, so that no array has K * N * N numbers.
    last = _gaussians(inverse, grid[-1])
    mixture = jnp.einsum("k...m,k...n->...mn", mixture, last, precision="highest")
    pairs = [size for size in grid for _ in range(2)]
    return _pairs_to_tokens(mixture.reshape(*heads, *pairs), len(grid))


def distance_decay(grid: Sequence[int], gamma: ArrayLike, *, causal: bool = False) -> Array:
    """gain float32[..., N, N]: gamma ** (distance along the axes, added up).

    On one axis with `causal` (0 for what comes after) this is the decay mask of RetNet (Sun et al.
    2023); on a grid it is its two-dimensional form, the Manhattan distance.

    Args:
        grid: number of tokens along each axis; N is their product, in raster order.
        gamma: float[...], in (0, 1], for example one per head.
        causal: 0 where the key comes after the query in raster order.
    """
    # Made on the device: as a constant of the program N * N numbers would be stored with it.
    places = jnp.unravel_index(jnp.arange(math.prod(grid)), tuple(grid))
    distance = sum(jnp.abs(place[:, None] - place) for place in places)
    decay = jnp.asarray(gamma, jnp.float32)[..., None, None] ** distance
    return jnp.where(jnp.tri(len(distance), dtype=bool), decay, 0) if causal else decay


def _gaussians(inverse: Array, size: int) -> Array:
    """exp(-inverse * distance ** 2) of each pair on one axis: [...] -> [..., size * size]."""
    distances = np.subtract.outer(np.arange(size), np.arange(size))
    return jnp.exp(-inverse[..., None] * np.square(distances).ravel())


def _pairs_to_tokens(mixture: Array, num_axes: int) -> Array:
    """[..., h, h', w, w'] -> [..., (h w), (h' w')], for any number of axes."""
    rows = [f"q{i}" for i in range(num_axes)]
    columns = [f"k{i}" for i in range(num_axes)]
    pairs = " ".join(f"{q} {k}" for q, k in zip(rows, columns, strict=True))
    return rearrange(mixture, f"... {pairs} -> ... ({' '.join(rows)}) ({' '.join(columns)})")
