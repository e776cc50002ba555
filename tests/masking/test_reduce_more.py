"""masked_softmax, masked_quantile, segment_mean and segment_broadcast."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hlo import collectives
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from maskjax.masking import reduce

SETTINGS = settings(max_examples=20, deadline=None, derandomize=True)
seeds = st.integers(0, 2**31)
METHODS = ("scatter", "onehot")


def example(seed=0, shape=(3, 4, 6), share=0.6):
    rng = np.random.default_rng(seed)
    return rng.normal(2, 3, shape).astype(np.float32), rng.uniform(size=shape) < share


@SETTINGS
@given(seeds, st.sampled_from([0, 1, -1]))
def test_softmax_over_what_is_valid(seed, axis):
    x, valid = example(seed, share=0.4)
    found = np.asarray(reduce.masked_softmax(jnp.asarray(x), valid, axis))
    powers = np.where(valid, np.exp(x.astype(np.float64)), 0)
    total = powers.sum(axis, keepdims=True)
    np.testing.assert_allclose(found, powers / np.where(total > 0, total, 1), rtol=1e-5, atol=1e-7)
    everything = reduce.masked_softmax(jnp.asarray(x), True, axis)
    np.testing.assert_allclose(everything, jax.nn.softmax(x, axis), rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_softmax_does_not_see_the_rest_nor_do_gradients(bad):
    x, valid = example()
    valid[0, 0] = False
    weight = jnp.asarray(np.random.default_rng(1).normal(size=x.shape), jnp.float32)
    loss = jax.value_and_grad(lambda x: (reduce.masked_softmax(x, valid) * weight).sum())
    dirty, clean = (loss(jnp.asarray(np.where(valid, x, fill), jnp.float32)) for fill in (bad, 0))
    jax.tree.map(np.testing.assert_array_equal, dirty, clean)
    assert np.isfinite(clean[1]).all() and not np.asarray(clean[1])[~valid].any()
    far = reduce.masked_softmax(jnp.array([1e30, 1e30, 3e38]), jnp.array([True, True, False]))
    np.testing.assert_array_equal(far, [0.5, 0.5, 0])


@SETTINGS
@given(seeds, st.sampled_from([0, 1, -1]), st.floats(0, 1))
def test_quantiles_are_numpys(seed, axis, q):
    x, valid = example(seed)
    hidden_nan = np.where(valid, x, np.nan)
    expected = np.apply_along_axis(
        lambda row: np.quantile(row[~np.isnan(row)], q) if not np.isnan(row).all() else 0.0,
        axis,
        hidden_nan,
    )
    found = reduce.masked_quantile(jnp.asarray(hidden_nan), valid, q, axis)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_several_quantiles_at_once_and_their_gradient():
    x, valid = example()
    valid[1, 2] = False
    several = reduce.masked_quantile(jnp.asarray(x), valid, jnp.array([[0.0, 0.25, 1.0]]))
    assert several.shape == (1, 3, 3, 4)
    for i, q in enumerate((0.0, 0.25, 1.0)):
        one = reduce.masked_quantile(jnp.asarray(x), valid, q)
        np.testing.assert_allclose(several[0, i], one, rtol=1e-6)
    assert (several[0, :, 1, 2] == 0).all()
    median = lambda x: reduce.masked_quantile(x, valid, 0.5).sum()  # noqa: E731
    gradient = np.asarray(jax.grad(median)(jnp.asarray(np.where(valid, x, np.nan))))
    assert np.isfinite(gradient).all() and not gradient[~valid].any()
    np.testing.assert_allclose(gradient.sum(-1), valid.any(-1), atol=1e-6)


@SETTINGS
@given(seeds, st.sampled_from(METHODS), st.sampled_from([(), (2, 3)]))
def test_segment_means(seed, method, batch):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(*batch, 10, 3)).astype(np.float32)
    segments = rng.integers(-1, 6, (*batch, 10))  # -1 and 5 belong to no segment
    weight = rng.uniform(size=(*batch, 10)).astype(np.float32) * (rng.uniform(size=10) < 0.7)
    dirty = jnp.asarray(np.where(weight[..., None] > 0, x, np.nan))
    args = dirty, jnp.asarray(segments), 5, weight
    means, count, back = (np.asarray(part) for part in _segment_means(*args, method))
    for index in np.ndindex(*batch):
        for s in range(5):
            w = np.where(segments[index] == s, weight[index], 0)
            np.testing.assert_allclose(count[index][s], w.sum(), rtol=1e-5, atol=1e-6)
            expected = (x[index] * w[:, None]).sum(0) / (w.sum() or 1)
            np.testing.assert_allclose(means[index][s], expected, rtol=1e-4, atol=1e-5)
    for index in np.ndindex(*batch, 10):
        s = segments[index]
        expected = means[index[:-1]][s] if 0 <= s < 5 else np.zeros(3)
        np.testing.assert_array_equal(back[index], expected)


@functools.partial(jax.jit, static_argnums=(2, 4))
def _segment_means(x, segments, num_segments, weight, method):
    means, count = reduce.segment_mean(x, segments, num_segments, weight, method=method)
    return means, count, reduce.segment_broadcast(means, segments)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_of_segment_means(method):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 8, 3)), jnp.float32)
    segments = jnp.asarray(rng.integers(-1, 4, (2, 8)))
    keep = jnp.asarray(rng.uniform(size=(2, 8)) < 0.7)
    mean = lambda x: jnp.square(reduce.segment_mean(x, segments, 4, keep, method=method)[0]).sum()  # noqa: E731
    jax.test_util.check_grads(mean, (x,), 1, ["rev"], rtol=2e-2)
    gradient = jax.grad(mean)(jnp.where(keep[..., None], x, jnp.nan))
    assert np.isfinite(gradient).all() and not np.asarray(gradient)[~np.asarray(keep)].any()


def test_segment_errors():
    x = jnp.ones((4, 2))
    with pytest.raises(ValueError, match="'scatter' or 'onehot', got 'sort'"):
        reduce.segment_mean(x, jnp.zeros(4, int), 2, method="sort")
    with pytest.raises(AssertionError):
        reduce.segment_mean(x, jnp.zeros(3, int), 2)


def test_nothing_is_sent_between_devices():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    x = jax.device_put(np.random.default_rng(0).normal(size=(16, 10, 3)).astype(np.float32), rows)

    def everything(x):
        valid, segments = x > 0, (x[..., 0] * 3).astype(jnp.int32)
        means, count = reduce.segment_mean(x, segments, 4)
        back = reduce.segment_broadcast(means, segments)
        quantiles = reduce.masked_quantile(x, valid, 0.3, -2)
        return reduce.masked_softmax(x, valid), quantiles, count, back

    compiled = jax.jit(everything, out_shardings=rows).lower(x).compile()
    assert collectives(compiled.as_text()) == {}
    local = jax.jit(everything)(jax.device_put(x, jax.devices()[0]))
    jax.tree.map(np.testing.assert_array_equal, compiled(x), local)
