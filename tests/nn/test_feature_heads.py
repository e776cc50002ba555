"""Heads between a student and its teacher: shapes, starting values, one head's gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskjax.nn.feature_heads import KINDS, FeatureHead, FeatureHeads

X = np.random.default_rng(0).normal(size=(2, 3, 8)).astype(np.float32)


def heads(kind, **options):
    return FeatureHeads(FeatureHead(kind, 6, 10, parent=None, **options), 3)


@pytest.mark.parametrize("kind", KINDS)
def test_each_head_has_its_own_parameters(kind):
    made = heads(kind)
    params = made.init(jax.random.key(0), 8)
    first, last = (made(params, i, X) for i in (0, 2))
    assert first.shape == (2, 3, 6) and first.dtype == jnp.float32
    assert not np.allclose(first, last)
    gradient = jax.grad(lambda p: made(p, 1, X).sum())(params)
    touched = jax.tree.map(
        lambda leaf: np.abs(np.asarray(leaf)).sum(tuple(range(1, leaf.ndim))), gradient
    )
    for leaf in jax.tree.leaves(touched):
        assert leaf[0] == leaf[2] == 0
    assert touched["layer0"]["kernel"][1] > 0
    text = jax.jit(jax.grad(lambda p: made(p, 1, X).sum())).lower(params).as_text()
    assert "scatter" not in text


def test_a_linear_head_is_its_matrix_and_starts_as_asked():
    made = heads("linear", fan_in=True)
    params = made.init(jax.random.key(0), 8)
    kernel, bias = params["layer0"]["kernel"], params["layer0"]["bias"]
    np.testing.assert_allclose(made(params, 1, X), X @ kernel[1] + bias[1], rtol=1e-5, atol=1e-6)
    for leaf in (kernel, bias):
        assert 0.8 / np.sqrt(8) < np.abs(leaf).max() <= 1 / np.sqrt(8)
    plain = heads("linear").init(jax.random.key(0), 8)["layer0"]
    assert (plain["bias"] == 0).all() and np.abs(plain["kernel"]).max() > 1 / np.sqrt(8)


def test_flops_are_those_of_the_matrices():
    assert heads("linear").flops(3, 8) == 2 * 3 * 8 * 6
    assert heads("mlp").flops(3, 8) == 2 * 3 * 10 * (8 + 6)
