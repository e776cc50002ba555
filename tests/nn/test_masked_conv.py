"""Layers around the masked operations: names, initial values, dense without a mask, statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskjax.masking import conv, conv_norm, neighbour
from maskjax.masking.windows import window
from maskjax.nn.masked_conv import MaskedBatchNorm, MaskedConv, MaskedLayerNorm
from maskjax.nn.masked_resnet import MaskedResNet

SHAPE = (3, 8, 8, 4)
RNG = np.random.default_rng(0)
X = RNG.normal(1, 2, SHAPE).astype(np.float32)
VALID = RNG.uniform(size=SHAPE[:3]) < 0.5
EVERYTHING = np.ones_like(VALID)


def initial(layer, *args, **options):
    """Variables of a layer; inside jit, since eager operations compile one by one."""
    return jax.jit(lambda key: layer.init(key, *args, **options))(jax.random.key(0))


def any_values(layer, *args, **options):
    """Variables of the right shapes with positive numbers in them."""
    shapes = jax.eval_shape(lambda key: layer.init(key, *args, **options), jax.random.key(0))
    return jax.tree.map(lambda leaf: RNG.uniform(0.5, 2, leaf.shape).astype(leaf.dtype), shapes)


def test_names_shapes_and_initial_values():
    layer = MaskedConv(64, (3, 5), groups=2)
    params = initial(layer, X, VALID)["params"]
    assert jax.tree.map(np.shape, params) == {"kernel": (3, 5, 2, 64), "bias": (64,)}
    limit = (3 * 5 * 2) ** -0.5
    for leaf in params.values():
        assert 0.9 * limit < np.abs(leaf).max() <= limit
    assert set(initial(MaskedConv(6, use_bias=False), X)["params"]) == {"kernel"}
    norms = initial(MaskedBatchNorm(), X, VALID, train=True)
    assert jax.tree.map(np.shape, norms) == {
        "params": {"scale": (4,), "bias": (4,)},
        "batch_stats": {"mean": (4,), "var": (4,)},
    }
    assert (np.asarray(norms["batch_stats"]["mean"]) == 0).all()
    assert (np.asarray(norms["batch_stats"]["var"]) == 1).all()
    params = initial(MaskedLayerNorm(), X, VALID)["params"]
    assert set(params) == {"scale", "bias"}


@pytest.mark.parametrize("style", ["sparse", "neighbour", "zero", "partial"])
def test_conv_calls_the_operation_of_its_style(style):
    layer = MaskedConv(6, 3, 2, 1, groups=2, style=style)
    variables = any_values(layer, X, VALID)
    kernel, bias = (variables["params"][name] for name in ("kernel", "bias"))
    place = window(3, stride=2, padding=1)
    options = {"window": place, "groups": 2}
    if style == "sparse":
        expected = conv.masked_conv(X, VALID, kernel, bias, **options)
    else:
        expected = neighbour.layer_conv(X, VALID, kernel, bias, fill=style, **options)
    found = layer.apply(variables, X, VALID)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    y, none = layer.apply(variables, X)
    assert none is None
    np.testing.assert_array_equal(y, conv.conv(X, kernel, bias, **options))


@pytest.mark.parametrize("size", [1, 2, 3, (5, 2)])
def test_the_default_padding_keeps_the_size(size):
    layer = MaskedConv(6, size)
    y, valid = jax.eval_shape(layer.apply, any_values(layer, X, VALID), X, VALID)
    assert y.shape == (3, 8, 8, 6)
    assert valid.shape == VALID.shape


def test_batch_norm_trains_on_the_batch_and_evaluates_with_what_it_kept():
    layer = MaskedBatchNorm(momentum=0.3)
    variables = any_values(layer, X, VALID, train=True)
    affine = [variables["params"][name] for name in ("scale", "bias")]
    kept = [variables["batch_stats"][name] for name in ("mean", "var")]
    y, changed = layer.apply(variables, X, VALID, train=True, mutable=["batch_stats"])
    moments = conv_norm.masked_moments(X, VALID)
    np.testing.assert_array_equal(y, conv_norm.masked_batch_norm(X, VALID, *moments[:2], *affine))
    running = conv_norm.update_running(kept, moments, momentum=0.3)
    found = changed["batch_stats"]
    jax.tree.map(np.testing.assert_array_equal, (found["mean"], found["var"]), running)
    evaluated = layer.apply({**variables, **changed}, X, VALID, train=False)
    expected = conv_norm.masked_batch_norm(X, VALID, *running, *affine)
    np.testing.assert_array_equal(evaluated, expected)
    # Without a mutable collection training still normalises by the batch.
    np.testing.assert_array_equal(layer.apply(variables, X, VALID, train=True), y)


@pytest.mark.parametrize("layer", [MaskedLayerNorm(), MaskedBatchNorm()])
def test_without_a_mask_everything_is_visible(layer):
    options = {"train": True} if isinstance(layer, MaskedBatchNorm) else {}
    variables = any_values(layer, X, **options)
    plain = layer.apply(variables, X, **options)
    np.testing.assert_array_equal(layer.apply(variables, X, EVERYTHING, **options), plain)
    assert plain.all()


def test_types_are_those_asked_for():
    layers = [MaskedConv(6, dtype=jnp.bfloat16), MaskedLayerNorm(dtype=jnp.bfloat16)]
    for layer in layers:
        variables = any_values(layer, X, VALID)
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
        y = jax.tree.leaves(layer.apply(variables, X, VALID))[0]
        assert y.dtype == jnp.bfloat16


@pytest.mark.parametrize("style", ["sparse", "neighbour"])
def test_a_resnet_trains_on_a_visible_region(style):
    """Statistics move, gradients are finite and reach every parameter; hidden pixels get none."""
    model = MaskedResNet((4, 4), (1, 1), 3, 8, 2, style=style)
    images = RNG.normal(size=(4, 32, 32, 3)).astype(np.float32)
    valid = (RNG.uniform(size=(4, 4, 4)) < 0.5).repeat(8, 1).repeat(8, 2)
    variables = any_values(model, images, valid)

    def loss(params, images):
        given = {**variables, "params": params}
        (logits, _), changed = model.apply(
            given, images, valid, train=True, mutable=["batch_stats"]
        )
        return jnp.square(logits - 1).sum(), changed["batch_stats"]

    gradient = jax.jit(jax.grad(loss, (0, 1), has_aux=True))
    (by_params, by_images), statistics = gradient(variables["params"], images)
    for leaf in jax.tree.leaves(by_params):
        assert np.isfinite(leaf).all()
        assert np.any(leaf)
    assert (np.asarray(by_images)[~valid] == 0).all()
    moved = jax.tree.map(lambda a, b: np.any(a != b), statistics, variables["batch_stats"])
    assert all(jax.tree.leaves(moved))
