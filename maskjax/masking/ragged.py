"""Ragged data in static shapes: padded rows with `valid`, and flat rows with segment numbers."""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from maskjax.masking.split import TokenSet


def from_members(member: Array, max_tokens: int) -> tuple[TokenSet, Array]:
    """The tokens that are members, in raster order, padded to a static number.

    Args:
        member: bool[..., N].
        max_tokens: K in 0..N, static.

    Returns:
        TokenSet of ids and valid [..., K], and int32[...], how many members did not fit and were
        left out (the last ones).

    Raises:
        ValueError: if K is outside 0..N.
    """
    chex.assert_type(member, bool)
    if not 0 <= max_tokens <= member.shape[-1]:
        raise ValueError(f"max_tokens must lie in 0..{member.shape[-1]}; got {max_tokens}")
    count = member.sum(-1, dtype=jnp.int32)
    ids = jnp.argsort(~member, axis=-1)[..., :max_tokens].astype(jnp.int32)
    valid = jnp.arange(max_tokens) < count[..., None]
    return TokenSet(ids, valid), jnp.maximum(count - max_tokens, 0)


def pack(x: Array, tokens: TokenSet) -> Array:
    """The tokens of a set, 0 where it is padded: [..., N, D] -> [..., K, D].

    Raises:
        AssertionError: if the leading dimensions differ.
    """
    chex.assert_equal_shape_prefix((x, tokens.ids), tokens.ids.ndim - 1)
    picked = jnp.take_along_axis(x, tokens.ids[..., None], axis=-2)
    return jnp.where(tokens.valid[..., None], picked, jnp.zeros((), x.dtype))


def unpack(x: Array, tokens: TokenSet, num_tokens: int, fill: float | Array = 0) -> Array:
    """Puts the tokens of a set back at their places; the inverse of `pack`.

    Args:
        x: [..., K, D]; padded rows are ignored.
        tokens: ids and valid [..., K]; valid ids are distinct.
        num_tokens: N, static.
        fill: a number or [D], what stands at all other places.

    Returns:
        [..., N, D].
    """
    chex.assert_equal_shape_prefix((x, tokens.ids), tokens.ids.ndim)
    # Padding goes to a place behind the end, which is dropped.
    places = jnp.where(tokens.valid, tokens.ids, num_tokens)
    empty = jnp.broadcast_to(jnp.asarray(fill, x.dtype), (num_tokens, x.shape[-1]))
    one = lambda x, places: empty.at[places].set(x, mode="drop")  # noqa: E731
    for _ in range(places.ndim - 1):
        one = jax.vmap(one)
    return one(x, places)


def pad(values: Array, lengths: Array, max_tokens: int) -> tuple[Array, Array]:
    """Rows of differing length, one after the other -> padded rows.

    Args:
        values: [T, ...]; the first lengths[0] rows belong to example 0, and so on.
        lengths: int[B], of sum <= T; what is left of T is ignored.
        max_tokens: K, static; longer examples lose their last rows.

    Returns:
        [B, K, ...] with 0 at the padding, and valid bool[B, K].
    """
    starts = jnp.cumsum(lengths) - lengths
    column = jnp.arange(max_tokens)
    valid = column < lengths[:, None]
    places = jnp.where(valid, starts[:, None] + column, 0)
    mask = valid.reshape(*valid.shape, *(1,) * (values.ndim - 1))
    return jnp.where(mask, values[places], jnp.zeros((), values.dtype)), valid


def flatten(x: Array, valid: Array, num_rows: int) -> tuple[Array, Array]:
    """Padded rows -> rows of differing length, one after the other; the inverse of `pad`.

    Args:
        x: [B, K, ...].
        valid: bool[B, K]; the valid tokens of an example need not stand first.
        num_rows: T, static; what does not fit is left out.

    Returns:
        [T, ...], with 0 behind the last row, and lengths int32[B].
    """
    chex.assert_shape(valid, x.shape[:2])
    chosen, _ = from_members(valid.reshape(-1), min(num_rows, valid.size))
    rows = x.reshape(-1, *x.shape[2:])[chosen.ids]
    mask = chosen.valid.reshape(-1, *(1,) * (x.ndim - 2))
    rows = jnp.where(mask, rows, jnp.zeros((), x.dtype))
    missing = num_rows - rows.shape[0]
    rows = jnp.pad(rows, ((0, missing), *((0, 0),) * (rows.ndim - 1)))
    return rows, valid.sum(1, dtype=jnp.int32)


def segments_of(lengths: Array, num_rows: int) -> tuple[Array, Array]:
    """Which example each flat row belongs to, and its position inside; for attention by example.

    Args:
        lengths: int[B].
        num_rows: T, static.

    Returns:
        segment int32[T] in 0..B-1, -1 behind the last row; position int32[T], 0 there.
    """
    ends = jnp.cumsum(lengths)
    row = jnp.arange(num_rows)
    segment = (row[:, None] >= ends).sum(-1, dtype=jnp.int32)
    inside = segment < lengths.shape[0]
    start = jnp.where(inside, (ends - lengths)[jnp.minimum(segment, lengths.shape[0] - 1)], row)
    return jnp.where(inside, segment, -1), (row - start).astype(jnp.int32)


def stack(arrays: Sequence[np.ndarray], max_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """On the host: arrays [n_i, ...] -> padded [B, K, ...] and valid bool[B, K].

    Raises:
        ValueError: if there is no array or one has more than K rows.
    """
    longest = max((len(array) for array in arrays), default=None)
    if longest is None or longest > max_tokens:
        found = "no array" if longest is None else f"{longest} rows in the longest array"
        raise ValueError(f"stack needs arrays of at most {max_tokens} rows; got {found}")
    out = np.zeros((len(arrays), max_tokens, *arrays[0].shape[1:]), arrays[0].dtype)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    lengths = np.array([len(array) for array in arrays])
    return out, np.arange(max_tokens) < lengths[:, None]
