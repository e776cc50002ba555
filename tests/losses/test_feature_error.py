"""Distances of features: their formulas, and where they meet."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax.losses import feature_error
from maskjax.losses.feature import DISTANCES

values = st.lists(st.floats(-4, 4, width=32), min_size=5, max_size=5).map(np.float32)


@given(values, values)
@settings(max_examples=40, deadline=None)
def test_formulas(a, b):
    d = np.abs(a - b)
    expected = {
        "l1": d.mean(),
        "l2": (d**2).mean(),
        "smooth_l1": np.where(d < 1, d**2 / 2, d - 0.5).mean(),
    }
    assert tuple(expected) == DISTANCES
    for distance, value in expected.items():
        np.testing.assert_allclose(feature_error(a, b, distance), value, rtol=1e-5, atol=1e-6)


def test_one_value_for_each_token_and_a_smooth_gradient():
    a, b = np.zeros((2, 3, 4), np.float32), np.full((2, 3, 4), 0.5, np.float32)
    assert feature_error(a, b).shape == (2, 3)
    slope = jax.grad(lambda x: feature_error(x, np.float32([0.0]), "smooth_l1"))
    for x in (0.5, 1.0, 2.0):
        np.testing.assert_allclose(slope(np.float32([x])), min(x, 1.0))


def test_an_unknown_distance_lists_the_known_ones():
    with pytest.raises(ValueError, match="l1, l2, smooth_l1"):
        feature_error(np.zeros(3), np.zeros(3), "huber")
