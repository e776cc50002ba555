"""masked_sum, masked_mean and masked_var."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax.masking import reduce

SETTINGS = settings(max_examples=30, deadline=None, derandomize=True)
AXES = [None, 0, -1, (0, 2)]


def example(seed=0, boolean=True):
    rng = np.random.default_rng(seed)
    x = rng.normal(3, 2, (4, 5, 3)).astype(np.float32)
    weight = rng.uniform(size=x.shape) < 0.6 if boolean else rng.uniform(0, 2, x.shape)
    return x, weight.astype(bool if boolean else np.float32)


@SETTINGS
@given(st.integers(0, 2**31), st.sampled_from(AXES))
def test_equal_numpys_masked_arrays(seed, axis):
    x, keep = example(seed)
    masked = np.ma.masked_array(x, ~keep)
    mean = np.ma.filled(masked.mean(axis), 0)
    np.testing.assert_allclose(reduce.masked_mean(x, keep, axis), mean, rtol=1e-5, atol=1e-6)
    total, count = reduce.masked_sum(x, keep, axis)
    np.testing.assert_allclose(total, np.ma.filled(masked.sum(axis), 0), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(count, keep.sum(axis))
    for ddof in (0, 1):
        expected = np.ma.filled(masked.var(axis, ddof=ddof), 0)
        value = reduce.masked_var(x, keep, axis, ddof=ddof)
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("axis", AXES)
def test_real_weights(axis):
    x, weight = example(boolean=False)
    mean = np.average(x, axis, weight)
    np.testing.assert_allclose(reduce.masked_mean(x, weight, axis), mean, rtol=1e-5)
    centred = x - (mean if axis is None else np.expand_dims(mean, axis))
    variance = np.average(centred**2, axis, weight)
    np.testing.assert_allclose(reduce.masked_var(x, weight, axis), variance, rtol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("fn", [reduce.masked_mean, reduce.masked_var])
def test_what_stands_at_weight_zero_is_not_seen(fn, bad):
    x, keep = example()
    dirty = jnp.asarray(np.where(keep, x, bad))
    clean = jnp.asarray(np.where(keep, x, 0))
    np.testing.assert_array_equal(fn(dirty, keep, -1), fn(clean, keep, -1))
    gradient = jax.grad(lambda x: fn(x, keep, -1).sum())
    np.testing.assert_array_equal(gradient(dirty), gradient(clean))
    assert not np.asarray(gradient(dirty))[~keep].any()
    weight = jnp.asarray(keep, jnp.float32)
    by_weight = jax.grad(lambda w, x: fn(x, w, -1).sum())
    assert np.isfinite(by_weight(weight, dirty)).all()
    np.testing.assert_allclose(
        np.asarray(by_weight(weight, dirty))[keep], np.asarray(by_weight(weight, clean))[keep]
    )


@pytest.mark.parametrize("fn", [reduce.masked_mean, reduce.masked_var])
def test_nothing_selected_gives_zero_and_no_gradient(fn):
    x = jnp.array([1.0, jnp.nan, 3.0])
    nothing = jnp.zeros(3)
    assert fn(x, nothing) == 0
    np.testing.assert_array_equal(jax.grad(lambda x: fn(x, nothing))(x), np.zeros(3))


def test_gradients_against_differences():
    x, weight = (jnp.asarray(a) for a in example(boolean=False))
    for fn in (reduce.masked_mean, reduce.masked_var):
        jax.test_util.check_grads(lambda x: fn(x, weight, 1), (x,), 1, ["rev"], rtol=2e-2)  # noqa: B023


def test_variance_of_one_value_and_at_a_large_offset():
    x = jnp.array([7.0, 1.0])
    assert reduce.masked_var(x, jnp.array([1, 0]), ddof=1) == 0
    offset = jnp.array([1e6, 1e6 + 1, 1e6 + 2, 0.0])
    np.testing.assert_allclose(reduce.masked_var(offset, jnp.array([1, 1, 1, 0]), ddof=1), 1.0)


def test_weights_broadcast_and_results_are_float32():
    x = jnp.arange(12, dtype=jnp.bfloat16).reshape(3, 4)
    per_row = jnp.array([1, 0, 1])[:, None]
    np.testing.assert_allclose(reduce.masked_mean(x, per_row, 0), (x[0] + x[2]) / 2)
    assert reduce.masked_mean(x, per_row).dtype == jnp.float32
    assert reduce.masked_var(x, per_row).dtype == jnp.float32
    total, count = reduce.masked_sum(x, True)
    assert (total, count) == (66, 12)
