"""Masks of a hierarchy of tokens, where a token of one scale is made of several of the scale below.

Per example, with any leading dimensions; `ids` int[..., M, k] are the members below of each token.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from maskjax.masking.split import TokenSplit


def visible_below(visible: Array, ids: Array, num_tokens: int) -> Array:
    """Which tokens of the scale below are members of a visible token: bool[..., num_tokens].

    The masks of Point-M2AE (Zhang et al. 2022): drawn at the highest scale and carried down, so
    that all members of what is visible are visible.

    Args:
        visible: bool[..., M], True = visible.
        ids: int[..., M, k], in 0..num_tokens-1.
        num_tokens: N of the scale below.
    """
    chex.assert_type(visible, bool)
    chex.assert_equal_shape_prefix((visible, ids), visible.ndim)
    chex.assert_rank(ids, visible.ndim + 1)

    def one(visible: Array, ids: Array) -> Array:
        return jnp.zeros(num_tokens, bool).at[ids].max(visible[:, None])

    # A vmapped scatter stays on its device.
    for _ in range(visible.ndim - 1):
        one = jax.vmap(one)
    return one(visible, ids)


def padded_split(hidden: Array, *, room: int) -> tuple[TokenSplit, Array]:
    """A split with room for as many visible tokens as there can be, where examples differ in them.

    Args:
        hidden: bool[..., N], True = hidden.
        room: R, static; at least the number of visible tokens, else the last ones have no room.

    Returns:
        TokenSplit with cuts (R,), visible tokens first, each part in raster order; and
        bool[..., R], True where a visible token stands, False for the padding.

    Raises:
        ValueError: if the room is outside 0..N.
    """
    chex.assert_type(hidden, bool)
    ids = jnp.argsort(hidden, axis=-1, stable=True).astype(jnp.int32)
    count = (~hidden).sum(-1, keepdims=True)
    return TokenSplit(ids, (room,)), jnp.arange(room) < count
