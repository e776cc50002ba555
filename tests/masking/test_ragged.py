"""Padded and flat forms of ragged data, and tokens.fill and replace."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hlo import collectives
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from maskjax import masking
from maskjax.masking import ragged, tokens

SETTINGS = settings(max_examples=20, deadline=None, derandomize=True)
seeds = st.integers(0, 2**31)


@SETTINGS
@given(seeds, st.sampled_from([0, 5, 12]), st.floats(0, 1))
def test_packing_members_and_back(seed, max_tokens, share):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, 12, 3)).astype(np.float32)
    member = rng.uniform(size=(2, 12)) < share
    chosen, left_out, packed, back = _there_and_back(x, member, max_tokens)
    for b in range(2):
        ids = np.flatnonzero(member[b])
        kept = ids[:max_tokens]
        assert left_out[b] == len(ids) - len(kept)
        assert chosen.valid[b].sum() == len(kept)
        assert chosen.ids.shape == (2, max_tokens)
        np.testing.assert_array_equal(packed[b, : len(kept)], x[b, kept])
        assert not packed[b, len(kept) :].any()
        expected = np.full((12, 3), 7.0, np.float32)
        expected[kept] = x[b, kept]
        np.testing.assert_array_equal(back[b], expected)


@functools.partial(jax.jit, static_argnums=2)
def _there_and_back(x, member, max_tokens):
    chosen, left_out = ragged.from_members(member, max_tokens)
    packed = ragged.pack(x, chosen)
    return chosen, left_out, packed, ragged.unpack(packed, chosen, 12, fill=7.0)


def test_padding_is_not_seen():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(6, 2)), jnp.float32)
    member = jnp.array([True, False, True, False, False, False])
    chosen, _ = ragged.from_members(member, 4)
    dirty = jnp.where(member[:, None], x, jnp.nan)
    np.testing.assert_array_equal(ragged.pack(dirty, chosen), ragged.pack(x, chosen))
    gradient = jax.grad(lambda x: jnp.square(ragged.pack(x, chosen)).sum())(x)
    np.testing.assert_allclose(gradient, jnp.where(member[:, None], 2 * x, 0))
    rows = jnp.full((4, 2), jnp.nan).at[:2].set(1.0)
    back = ragged.unpack(rows, chosen, 6, fill=jnp.array([5.0, 6.0]))
    np.testing.assert_array_equal(back, np.where(member[:, None], 1.0, [5.0, 6.0]))


def test_from_members_errors():
    with pytest.raises(ValueError, match=r"0\.\.4; got 5"):
        ragged.from_members(jnp.ones(4, bool), 5)
    with pytest.raises(AssertionError):
        ragged.from_members(jnp.ones(4), 2)


@SETTINGS
@given(st.lists(st.integers(0, 5), min_size=3, max_size=3), st.sampled_from([(), (2, 3)]))
def test_padding_flat_rows_and_back(lengths, inner):
    total, max_tokens, num = sum(lengths), 5, 16
    values = np.random.default_rng(0).normal(size=(num, *inner)).astype(np.float32)
    (padded, valid), (flat, found), (segment, position) = _pad_and_flatten(
        values, jnp.asarray(lengths)
    )
    pieces = np.split(values[:total], np.cumsum(lengths)[:-1])
    host, host_valid = ragged.stack(pieces, max_tokens)
    np.testing.assert_array_equal(padded, host)
    np.testing.assert_array_equal(valid, host_valid)
    np.testing.assert_array_equal(found, lengths)
    np.testing.assert_array_equal(flat[:total], values[:total])
    assert flat.shape == values.shape and not np.asarray(flat[total:]).any()
    expected = np.repeat(np.arange(3), lengths)
    np.testing.assert_array_equal(segment, np.r_[expected, np.full(num - total, -1)])
    inside = np.concatenate([np.arange(n) for n in lengths])
    np.testing.assert_array_equal(position, np.r_[inside, np.zeros(num - total)])


@jax.jit
def _pad_and_flatten(values, lengths):
    padded, valid = ragged.pad(values, lengths, 5)
    num = len(values)
    return (padded, valid), ragged.flatten(padded, valid, num), ragged.segments_of(lengths, num)


def test_what_is_too_long_is_cut():
    values = jnp.arange(7.0)
    padded, valid = ragged.pad(values, jnp.array([5, 2]), 3)
    np.testing.assert_array_equal(padded, [[0, 1, 2], [5, 6, 0]])
    np.testing.assert_array_equal(valid.sum(1), [3, 2])
    flat, lengths = ragged.flatten(padded, valid, 4)
    np.testing.assert_array_equal(flat, [0, 1, 2, 5])
    np.testing.assert_array_equal(lengths, [3, 2])
    with pytest.raises(ValueError, match="at most 2 rows; got 3 rows"):
        ragged.stack([np.ones(1), np.ones(3)], 2)
    with pytest.raises(ValueError, match="no array"):
        ragged.stack([], 2)


def test_flat_rows_and_segment_means_agree_with_padded_ones():
    values = jnp.asarray(np.random.default_rng(0).normal(size=(9, 2)), jnp.float32)
    lengths = jnp.array([4, 0, 3])
    segment, _ = ragged.segments_of(lengths, 9)
    means, count = masking.reduce.segment_mean(values, segment, 3)
    padded, valid = ragged.pad(values, lengths, 4)
    expected = masking.reduce.masked_mean(padded, valid[..., None], 1)
    np.testing.assert_allclose(means, expected, rtol=1e-6)
    np.testing.assert_array_equal(count, lengths)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_fill_puts_mask_tokens_at_hidden_places(batch):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(*batch, 8, 2)), jnp.float32)
    split = masking.random(jnp.asarray(rng.uniform(size=(*batch, 8))), 8, num_visible=3)
    token = jnp.array([7.0, 9.0])
    hidden = np.asarray(split.hidden())
    found = tokens.fill(tokens.gather(x, split.visible_ids), split, token)
    np.testing.assert_array_equal(found, np.where(hidden[..., None], token, x))
    np.testing.assert_array_equal(tokens.replace(x, split.hidden(), token), found)
    own = tokens.gather(x + 1, split.hidden_ids)
    filled = tokens.fill(tokens.gather(x, split.visible_ids), split, own)
    np.testing.assert_array_equal(filled, np.where(hidden[..., None], x + 1, x))


def test_fill_keeps_the_type_and_checks_the_count():
    split = masking.random(jax.random.key(0), 8, num_visible=3)
    x = jnp.ones((3, 2), jnp.bfloat16)
    assert tokens.fill(x, split, jnp.zeros(2)).dtype == jnp.bfloat16
    assert (
        tokens.replace(jnp.ones((8, 2), jnp.bfloat16), split.hidden(), jnp.zeros(2)).dtype
        == x.dtype
    )
    with pytest.raises(AssertionError):
        tokens.fill(jnp.ones((4, 2)), split, jnp.zeros(2))
    with pytest.raises(AssertionError):
        tokens.replace(jnp.ones((7, 2)), split.hidden(), jnp.zeros(2))
    gradient = jax.grad(lambda token: tokens.fill(x, split, token).astype(jnp.float32).sum())
    np.testing.assert_array_equal(gradient(jnp.zeros(2)), [5, 5])


def test_nothing_is_sent_between_devices():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    x = jax.device_put(np.random.default_rng(0).normal(size=(16, 10, 3)).astype(np.float32), rows)

    def everything(x):
        chosen, left_out = ragged.from_members(x[..., 0] > 0, 6)
        back = ragged.unpack(ragged.pack(x, chosen), chosen, 10)
        split = masking.random(x[..., 1], 10, num_visible=4)
        filled = tokens.fill(tokens.gather(x, split.visible_ids), split, jnp.ones(3))
        return left_out, back, filled, tokens.replace(x, split.hidden(), jnp.ones(3))

    compiled = jax.jit(everything, out_shardings=rows).lower(x).compile()
    assert collectives(compiled.as_text()) == {}
    local = jax.jit(everything)(jax.device_put(x, jax.devices()[0]))
    jax.tree.map(np.testing.assert_array_equal, compiled(x), local)
