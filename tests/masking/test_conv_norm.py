"""Batch and layer norm over visible positions: values, gradients, and over devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hlo import collectives
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from maskjax.masking import conv_norm
from maskjax.masking.conv_norm import masked_batch_norm, masked_layer_norm, masked_moments

SHAPE = (16, 3, 4, 5)


def images(seed=0, offset=3.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(offset, 2, SHAPE).astype(np.float32)
    return x, rng.uniform(size=SHAPE[:3]) < 0.4


def scale_and_bias():
    rng = np.random.default_rng(9)
    return rng.normal(size=(2, SHAPE[-1])).astype(np.float32)


@pytest.fixture(scope="module")
def mesh():
    return jax.make_mesh((4, 2), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)


def train(x, valid, scale=1.0, bias=0.0, **options):
    mean, var, _ = masked_moments(x, valid, **options)
    return masked_batch_norm(x, valid, mean, var, scale, bias)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_moments_are_those_of_the_visible_positions(offset):
    x, valid = images(offset=offset)
    mean, var, count = masked_moments(x, valid)
    seen = x[valid].astype(np.float64)
    assert count == valid.sum()
    np.testing.assert_allclose(mean, seen.mean(0), rtol=1e-5)
    np.testing.assert_allclose(var, seen.var(0), rtol=1e-3)


def test_visible_outputs_are_standardised_and_the_rest_is_zero():
    x, valid = images()
    y = np.asarray(train(x, valid))
    assert (y[~valid] == 0).all()
    np.testing.assert_allclose(y[valid].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(y[valid].var(0), 1, rtol=1e-3)
    scale, bias = scale_and_bias()
    affine = np.asarray(train(x, valid, scale, bias))
    np.testing.assert_allclose(affine[valid], y[valid] * scale + bias, atol=1e-5)
    assert (affine[~valid] == 0).all()


def test_with_everything_valid_it_is_plain_batch_norm():
    x, _ = images()
    everything = np.ones(SHAPE[:3], bool)
    axes = (0, 1, 2)
    expected = (x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-5)
    np.testing.assert_allclose(train(x, everything), expected, atol=1e-4)
    centred = x - x.mean(-1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(masked_layer_norm(x, everything), expected, atol=1e-4)


def test_layer_norm_is_zero_where_hidden_not_the_bias():
    x, valid = images()
    scale, bias = scale_and_bias()
    y = np.asarray(masked_layer_norm(x, valid, scale, bias))
    centred = x - x.mean(-1, keepdims=True)
    full = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * scale + bias
    np.testing.assert_allclose(y[valid], full[valid], atol=1e-4)
    assert (y[~valid] == 0).all()


@pytest.mark.parametrize("norm", [train, masked_layer_norm])
@pytest.mark.parametrize("rubbish", [1e6, np.nan])
def test_invalid_content_reaches_neither_results_nor_gradients(norm, rubbish):
    x, valid = images()
    dirty = np.where(valid[..., None], x, np.float32(rubbish))
    loss = jax.jit(jax.value_and_grad(lambda x: jnp.sin(norm(x, valid)).sum()))
    (value, gradient), (clean, expected) = loss(dirty), loss(x)
    assert value == clean
    np.testing.assert_array_equal(gradient, expected)
    assert (np.asarray(gradient)[~valid] == 0).all()
    assert np.isfinite(gradient).all()


def test_gradients_against_differences():
    x, valid = (jnp.asarray(a[:2]) for a in images())
    for norm in (train, masked_layer_norm):
        fn = jax.jit(lambda x: norm(x, valid))  # noqa: B023
        jax.test_util.check_grads(fn, (x,), 1, ["rev"], rtol=2e-2, atol=2e-2)


def test_nothing_visible_is_finite():
    x, valid = images()
    mean, var, count = masked_moments(x, np.zeros_like(valid))
    assert (count, *mean, *var) == (0,) * (1 + 2 * SHAPE[-1])
    running = (jnp.ones(5), jnp.full(5, 2.0))
    after = conv_norm.update_running(running, (mean, var, count))
    jax.tree.map(np.testing.assert_array_equal, after, running)


def test_running_moments_are_torchs():
    x, valid = images()
    start = (jnp.full(5, 0.5), jnp.full(5, 2.0))
    mean, var = conv_norm.update_running(start, masked_moments(x, valid), momentum=0.3)
    seen = x[valid]
    np.testing.assert_allclose(mean, 0.7 * 0.5 + 0.3 * seen.mean(0), rtol=1e-5)
    np.testing.assert_allclose(var, 0.7 * 2 + 0.3 * seen.var(0, ddof=1), rtol=1e-4)


def test_types():
    x, valid = images()
    small = jnp.asarray(x, jnp.bfloat16)
    assert train(small, valid).dtype == jnp.bfloat16
    assert masked_layer_norm(small, valid).dtype == jnp.bfloat16
    assert all(m.dtype == jnp.float32 for m in masked_moments(small, valid))
    with pytest.raises(AssertionError):
        masked_moments(x, valid.astype(np.float32))


def test_statistics_are_global_inside_jit(mesh):
    x, valid = images()
    rows = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    given = [jax.device_put(a, rows) for a in (x, valid)]
    compiled = jax.jit(train, out_shardings=rows).lower(*given).compile()
    assert collectives(compiled.as_text()).keys() == {"all-reduce"}
    np.testing.assert_allclose(compiled(*given), train(x, valid), atol=1e-5)
    layer = jax.jit(masked_layer_norm, out_shardings=rows).lower(*given).compile()
    assert collectives(layer.as_text()) == {}


@pytest.mark.parametrize("axis_name", [None, ("data", "fsdp"), "data"])
def test_statistics_inside_shard_map_are_those_of_the_named_axes(mesh, axis_name):
    """Of the shard without a name; of the whole batch with both axes."""
    x, valid = images()
    rows = PartitionSpec(("data", "fsdp"))
    run = jax.shard_map(
        lambda x, v: train(x, v, axis_name=axis_name),
        mesh=mesh,
        in_specs=(rows, rows),
        out_specs=rows,
    )
    groups = np.arange(16).reshape(4, 2, 2)  # data, fsdp, examples of one device
    members = {None: groups.reshape(8, 2), ("data", "fsdp"): [np.arange(16)]}
    members["data"] = groups.swapaxes(0, 1).reshape(2, 8)
    found = jax.jit(run)(x, valid)
    for some in members[axis_name]:
        np.testing.assert_allclose(found[some], train(x[some], valid[some]), atol=1e-4)
