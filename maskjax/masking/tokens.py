"""Gather, scatter, restore and fill tokens by id; gradients are those of the plain formulation."""

from typing import Literal

import chex
import jax
import jax.numpy as jnp
from jax import Array

from maskjax.masking.split import TokenSplit


def gather(x: Array, ids: Array, *, method: Literal["take", "onehot"] = "take") -> Array:
    """Tokens `ids` of `x`.

    `take` stays on the device under a batch sharding, forward and backward. `onehot` is a matmul:
    free of gather and scatter, for compilers that lower those badly.

    Args:
        x: [..., N, D].
        ids: int[..., K], with the leading dimensions of `x`.
        method: how to compute it; the values are the same.

    Returns:
        [..., K, D].

    Raises:
        AssertionError: if the leading dimensions differ.
        ValueError: for an unknown method.
    """
    chex.assert_equal_shape_prefix((x, ids), ids.ndim - 1)
    chex.assert_rank(x, ids.ndim + 1)
    if method == "take":
        return jnp.take_along_axis(x, ids[..., None], axis=-2)
    if method == "onehot":
        weights = jax.nn.one_hot(ids, x.shape[-2], dtype=x.dtype)
        return jnp.einsum("...kn,...nd->...kd", weights, x, precision="highest").astype(x.dtype)
    raise ValueError(f"method must be 'take' or 'onehot', got {method!r}")


def scatter(x: Array, ids: Array, num_tokens: int) -> Array:
    """Puts tokens back at their places; the other places are zero.

    Args:
        x: [..., K, D].
        ids: int[..., K], distinct, in 0..num_tokens-1.
        num_tokens: N, static.

    Returns:
        [..., N, D].

    Raises:
        AssertionError: if `x` and `ids` differ in their leading dimensions or in K.
    """
    chex.assert_equal_shape_prefix((x, ids), ids.ndim)

    def one(x: Array, ids: Array) -> Array:
        return jnp.zeros((num_tokens, x.shape[-1]), x.dtype).at[ids].set(x)

    # A vmapped scatter stays on the device; indexing with arange(B) costs two all-gathers.
    for _ in range(ids.ndim - 1):
        one = jax.vmap(one)
    return one(x, ids)


def restore(x: Array, split: TokenSplit) -> Array:
    """From the order of `split.ids` (shuffled) back to raster order. Costs one more sort.

    Args:
        x: [..., N, D], row i belongs to token split.ids[..., i].
        split: the split that made the order.

    Returns:
        [..., N, D] in raster order.
    """
    chex.assert_axis_dimension(x, -2, split.num_tokens)
    return gather(x, split.inverse())


def fill(x: Array, split: TokenSplit, mask_token: Array) -> Array:
    """All tokens in raster order: the visible ones, and the mask token at every hidden place.

    The input of MAE's decoder as the official code builds it. A decoder that takes the shuffled
    order (`split.ids`) needs no sort: concatenate the visible tokens and mask tokens.

    Args:
        x: [..., K, D], the visible tokens in the order of `split.visible_ids`.
        split: how the tokens were split; ids int32[..., N].
        mask_token: [D], or [..., N - K, D] for a token of its own at each hidden place, in the
            order of `split.hidden_ids`.

    Returns:
        [..., N, D]. Costs one more sort.

    Raises:
        AssertionError: if `x` does not have K tokens.
    """
    chex.assert_axis_dimension(x, -2, split.num_visible)
    shape = (*x.shape[:-2], split.num_hidden, x.shape[-1])
    hidden = jnp.broadcast_to(mask_token.astype(x.dtype), shape)
    return restore(jnp.concatenate([x, hidden], -2), split)


def replace(x: Array, hidden: Array, mask_token: Array) -> Array:
    """The mask token in the place of every hidden token, as in SimMIM and BEiT.

    Args:
        x: [..., N, D].
        hidden: bool[..., N], True = replaced.
        mask_token: [D], or anything that broadcasts to `x`.

    Raises:
        AssertionError: if the leading dimensions differ.
    """
    chex.assert_type(hidden, bool)
    chex.assert_equal_shape_prefix((x, hidden), hidden.ndim)
    return jnp.where(hidden[..., None], mask_token.astype(x.dtype), x)
