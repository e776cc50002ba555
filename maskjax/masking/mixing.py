"""Several images in one sequence: who owns which token, mixing and un-mixing (MixedAE).

Mixed Autoencoder (Chen et al. 2023). The paper's code is not public: the laws are read from its
text, and what it leaves open is a default of ours. In the operations G images of a group stand on
one axis; groups must lie whole on one device, or mixing becomes an exchange between devices.
"""

import math
from collections.abc import Sequence

import chex
import jax.numpy as jnp
from jax import Array

from maskjax.masking.noise import noise_of


def groups_mix(noise_or_key: Array, grid: int | Sequence[int], *, num_images: int) -> Array:
    """Which image of its group each token of a mixed sequence comes from.

    Every image owns exactly N / G positions, at random; where G does not divide N the numbers
    differ by at most one. Positions never move.

    Args:
        noise_or_key: one typed PRNG key, or noise float[..., N]; image 0 gets the smallest values.
        grid: number of tokens along each axis; N is their product.
        num_images: G in 1..N, the images of a group.

    Returns:
        owner int32[..., N] in 0..G-1.

    Raises:
        ValueError: if G is outside 1..N.
    """
    num_tokens = math.prod((grid,) if isinstance(grid, int) else grid)
    if not 1 <= num_images <= num_tokens:
        raise ValueError(f"num_images must lie in 1..{num_tokens} (tokens); got {num_images}")
    noise = noise_of(noise_or_key, (num_tokens,))
    rank = jnp.argsort(jnp.argsort(noise, -1), -1)
    return (rank * num_images // num_tokens).astype(jnp.int32)


def cyclic(owner: Array, num_images: int) -> Array:
    """All G mixed sequences that use every patch once: int32[..., N] -> int32[..., G, N].

    The paper's "full" mixing, an ablation; row s is (owner + s) mod G, and row 0 alone is "compose"
    mixing, the default.
    """
    return (owner[..., None, :] + jnp.arange(num_images)[:, None]) % num_images


def hidden_of(owner: Array, num_images: int) -> Array:
    """hidden bool[..., G, N] of each image: True where another image has the position."""
    return owner[..., None, :] != jnp.arange(num_images)[:, None]


def same_owner(owner: Array) -> Array:
    """allow bool[..., N, N]: True where two tokens come from the same image (the diagonal too)."""
    return owner[..., :, None] == owner[..., None, :]


def mix(x: Array, owner: Array) -> Array:
    """Tokens of G images [..., G, N, D] -> one mixed sequence [..., N, D].

    Raises:
        AssertionError: if the shapes do not fit.
    """
    chex.assert_shape(owner, (*x.shape[:-3], x.shape[-2]))
    mine = ~hidden_of(owner, x.shape[-3])[..., None]
    # A selection, not a gather: its gradient is one too.
    return jnp.where(mine, x, 0).sum(-3, dtype=x.dtype)


def unmix(x: Array, owner: Array, mask_token: Array, *, num_images: int) -> Array:
    """One mixed sequence [..., N, D] -> G sequences [..., G, N, D], mask tokens at other's places.

    Args:
        x: [..., N, D].
        owner: int[..., N] in 0..G-1.
        mask_token: [D], or anything that broadcasts to the result.
        num_images: G.

    Raises:
        AssertionError: if the shapes do not fit.
    """
    chex.assert_shape(owner, x.shape[:-1])
    hidden = hidden_of(owner, num_images)[..., None]
    return jnp.where(hidden, mask_token.astype(x.dtype), x[..., None, :, :])
