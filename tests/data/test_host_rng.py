"""Host-side randomness is a function of (seed, stream, position, draw)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskjax.data.random import host_rng, position_words
from maskjax.errors import UserError

words = st.integers(0, 2**64 - 1)
cells = st.tuples(words, st.sampled_from(["augment", "crop", "noise"]), words, st.integers(0, 9))


@given(cells)
def test_same_arguments_give_the_same_numbers(cell):
    first, second = host_rng(*cell), host_rng(*cell)
    first.random(7)
    assert np.array_equal(host_rng(*cell).random(7), second.random(7))


@given(cells, cells)
def test_different_arguments_give_different_numbers(one, other):
    same = np.array_equal(host_rng(*one).random(4), host_rng(*other).random(4))
    assert same == (one == other)


def test_neighbouring_positions_do_not_share_a_stretch_of_numbers():
    """Philox counts up: positions must be far apart in its counter, not one block apart."""
    drawn = np.concatenate([host_rng(0, "augment", i).random(1000) for i in range(20)])
    assert len(np.unique(drawn)) == len(drawn)


def test_numbers_are_pinned():
    """A change here changes every batch of every run: it must be on purpose."""
    raw = host_rng(7, "augment", 12345).bit_generator.random_raw(2)
    assert raw.tolist() == [5422377205841206890, 3614904354070740736]


@pytest.mark.parametrize("cell", [(-1, "a", 0), (2**64, "a", 0), (0, "a", -1), (0, "a", 0, -1)])
def test_out_of_range_is_an_error(cell):
    with pytest.raises(UserError, match=r"must be in 0 \.\. 2\*\*64 - 1"):
        host_rng(*cell)


@given(st.lists(words, min_size=1))
def test_position_words_hold_the_position(positions):
    high, low = position_words(np.array(positions, np.uint64)).T.astype(object)
    assert [h * 2**32 + w for h, w in zip(high, low, strict=True)] == positions
