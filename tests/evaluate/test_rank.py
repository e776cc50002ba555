"""Effective rank and spread: known values and invariants."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax.evaluate.rank import effective_rank, feature_spread


def test_known_ranks():
    assert effective_rank(np.eye(5)) == pytest.approx(5)
    assert effective_rank(np.outer(np.arange(1, 9), [1, 2, 3])) == pytest.approx(1, abs=1e-5)
    assert effective_rank(np.zeros((4, 3))) == 0.0
    share = np.array([3, 1]) / 4
    expected = np.exp(-(share * np.log(share)).sum())
    assert effective_rank(np.diag([3.0, 1.0])) == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 30), st.integers(2, 12), st.integers(0, 2**31), st.floats(1e-3, 1e3))
def test_rank_is_bounded_and_free_of_scale_and_rotation(num, dim, seed, scale):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(num, dim))
    rank = effective_rank(rows)
    assert 1 - 1e-9 <= rank <= min(num, dim) + 1e-9
    rotation, _ = np.linalg.qr(rng.normal(size=(dim, dim)))
    assert effective_rank(scale * rows @ rotation) == pytest.approx(rank)


def test_many_rows_are_thinned():
    rows = np.tile(np.eye(4), (20_000, 1))[::3]
    assert effective_rank(np.tile(rows, (2, 1))) == pytest.approx(4, rel=1e-3)


def test_spread_tells_collapse_from_a_full_sphere():
    rng = np.random.default_rng(0)
    assert feature_spread(np.tile(rng.normal(size=(1, 16)), (50, 1))) == pytest.approx(0)
    assert feature_spread(rng.normal(size=(5000, 16))) == pytest.approx(1, abs=0.01)
    assert feature_spread(np.zeros((5, 3))) == 0
