"""Normalised features: their moments, what they do not see, and gradients at 0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax.targets import features

X = np.random.default_rng(0).normal(2, 3, (2, 5, 16)).astype(np.float32)


def test_whitened_tokens_have_mean_0_and_variance_1():
    seen = features.whiten(X)
    np.testing.assert_allclose(seen.mean(-1), 0, atol=1e-6)
    np.testing.assert_allclose(seen.var(-1), 1, rtol=1e-4)


def test_unit_tokens_have_length_1():
    np.testing.assert_allclose(np.linalg.norm(features.unit(X), axis=-1), 1, rtol=1e-6)
    zeros = jnp.zeros(4)
    assert (features.unit(zeros) == 0).all()
    assert np.isfinite(jax.grad(lambda x: features.unit(x).sum())(zeros)).all()


def test_bn_is_over_everything_with_the_unbiased_variance():
    seen = features.standardize_all(X)
    np.testing.assert_allclose(seen, (X - X.mean()) / np.sqrt(X.var(ddof=1) + 1e-6), rtol=1e-4)


@given(st.floats(0.1, 100), st.sampled_from(["whiten", "l2", "bn"]))
@settings(max_examples=20, deadline=None)
def test_normalised_features_have_lost_their_scale(scale, norm):
    seen = features.normalized(np.float32(scale) * X, norm)
    np.testing.assert_allclose(seen, features.normalized(X, norm), rtol=1e-3, atol=1e-4)


def test_names():
    assert (features.normalized(X, "none") == X).all()
    with pytest.raises(ValueError, match="none, whiten, l2, bn"):
        features.normalized(X, "layer")
