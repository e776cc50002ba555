"""The coding rate: what its formula must hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax.losses import coding_rate


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99))
def test_it_is_half_the_log_determinant_and_the_same_for_rotated_tokens(seed):
    rng = np.random.default_rng(seed)
    tokens = rng.normal(size=(2, 7, 4))
    singular = np.linalg.svd(tokens, compute_uv=False)
    expected = 0.5 * np.log1p(4 / (7 * 0.25) * singular**2).sum(-1)
    np.testing.assert_allclose(coding_rate(tokens), expected, rtol=1e-4)
    rotation, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    np.testing.assert_allclose(coding_rate(tokens @ rotation), expected, rtol=1e-4)
    np.testing.assert_allclose(coding_rate(rng.permutation(tokens, axis=1)), expected, rtol=1e-4)


def test_fewer_directions_cost_less():
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(30, 8))
    narrow = wide[:, :1] * np.ones(8)
    scale = np.sqrt(np.square(wide).sum() / np.square(narrow).sum())
    assert float(coding_rate(narrow * scale)) < 0.6 * float(coding_rate(wide))
    assert float(coding_rate(np.zeros((5, 3)))) == pytest.approx(0)
    assert float(coding_rate(wide, eps=1.0)) < float(coding_rate(wide, eps=0.1))
