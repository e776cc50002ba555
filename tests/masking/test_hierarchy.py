"""Masks carried down a hierarchy, and splits with room for examples that differ."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax.masking import tokens
from maskjax.masking.hierarchy import padded_split, visible_below

BELOW = jax.jit(visible_below, static_argnums=2)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999), share=st.floats(0, 1))
def test_visible_below_are_the_members_of_visible_tokens(seed, share):
    rng = np.random.default_rng(seed)
    visible, ids = rng.random((2, 5)) < share, rng.integers(0, 12, (2, 5, 3))
    below = np.asarray(BELOW(visible, ids, 12))
    for row in range(2):
        assert set(np.flatnonzero(below[row])) == set(ids[row][visible[row]].ravel())
        np.testing.assert_array_equal(visible_below(visible[row], ids[row], 12), below[row])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999), share=st.floats(0, 1))
def test_visible_tokens_stand_in_front_in_raster_order(seed, share):
    hidden = np.random.default_rng(seed).random((3, 9)) < share
    room = int((~hidden).sum(1).max())
    split, valid = padded_split(hidden, room=room)
    assert split.num_visible == room and valid.shape == (3, room)
    for ids, there, row in zip(np.asarray(split.ids), np.asarray(valid), hidden, strict=True):
        assert sorted(ids) == list(range(9)) and there.sum() == (~row).sum()
        np.testing.assert_array_equal(ids[:room][there], np.flatnonzero(~row))
        np.testing.assert_array_equal(ids[(~row).sum() :], np.flatnonzero(row))
    x = np.arange(27.0).reshape(3, 9, 1)
    moved = tokens.gather(x, split.ids)
    np.testing.assert_array_equal(tokens.restore(moved, split), x)


def test_more_room_than_tokens_is_refused():
    with pytest.raises(ValueError, match="must lie within 4 tokens"):
        padded_split(np.zeros(4, bool), room=5)
