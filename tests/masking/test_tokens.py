"""tokens.gather, scatter and restore: values, gradients, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax import masking
from maskjax.masking import tokens

SETTINGS = settings(max_examples=20, deadline=None, derandomize=True)
METHODS = ("take", "onehot")


def example(batch=(3,), num=6, dim=4, keep=4, seed=0, distinct=True):
    rng = np.random.default_rng(seed)
    x = jnp.asarray(rng.normal(size=(*batch, num, dim)), jnp.float32)
    ids = rng.uniform(size=(*batch, num)).argsort(-1)[..., :keep]
    if not distinct:
        ids = rng.integers(0, num, ids.shape)
    return x, jnp.asarray(ids, jnp.int32)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_gather_takes_the_rows(method, batch):
    x, ids = example(batch)
    out = tokens.gather(x, ids, method=method)
    for index in np.ndindex(*batch):
        np.testing.assert_array_equal(out[index], np.asarray(x)[index][np.asarray(ids)[index]])


@SETTINGS
@given(st.integers(0, 2**31), st.booleans())
def test_gradients_of_both_methods_are_those_of_a_one_hot_product(seed, distinct):
    x, ids = example(seed=seed, distinct=distinct)
    weight = jnp.asarray(np.random.default_rng(seed).normal(size=(3, 4, 4)), jnp.float32)
    one_hot = np.eye(6, dtype=np.float32)[np.asarray(ids)]
    expected = np.einsum("bkn,bkd->bnd", one_hot, weight)
    for method in METHODS:
        loss = lambda x: (tokens.gather(x, ids, method=method) * weight).sum()  # noqa: B023, E731
        np.testing.assert_allclose(jax.grad(loss)(x), expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(jax.jit(jax.grad(loss))(x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_gather_keeps_the_type(method):
    x, ids = example()
    for dtype in (jnp.bfloat16, jnp.uint8, jnp.int32):
        out = tokens.gather((x * 50).astype(dtype), ids, method=method)
        assert out.dtype == dtype
        np.testing.assert_array_equal(out, tokens.gather((x * 50).astype(dtype), ids))


@SETTINGS
@given(st.integers(0, 2**31))
def test_scatter_inverts_gather(seed):
    x, ids = example(seed=seed)
    picked = tokens.gather(x, ids)
    back = np.asarray(tokens.scatter(picked, ids, 6))
    chosen = np.zeros((3, 6), bool)
    np.put_along_axis(chosen, np.asarray(ids), True, 1)
    np.testing.assert_array_equal(back, np.where(chosen[..., None], x, 0))
    np.testing.assert_array_equal(tokens.gather(jnp.asarray(back), ids), picked)


def test_scatter_gradient_is_a_gather():
    x, ids = example()
    weight, _ = example(seed=1)
    loss = lambda picked: (tokens.scatter(picked, ids, 6) * weight).sum()  # noqa: E731
    np.testing.assert_array_equal(jax.grad(loss)(x[:, :4]), tokens.gather(weight, ids))


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_scatter_and_restore_on_any_leading_axes(batch):
    x, _ = example(batch)
    noise = jnp.asarray(np.random.default_rng(2).uniform(size=(*batch, 6)))
    split = masking.random(noise, 6, num_visible=2)
    shuffled = tokens.gather(x, split.ids)
    np.testing.assert_array_equal(tokens.restore(shuffled, split), x)
    np.testing.assert_array_equal(tokens.scatter(shuffled, split.ids, 6), x)


def test_restore_puts_the_official_decoder_input_in_order():
    """Visible tokens, then mask tokens, restored: a mask token at each hidden place."""
    x, _ = example()
    split = masking.random(jax.random.uniform(jax.random.key(0), (3, 6)), 6, num_visible=2)
    row = jnp.concatenate(
        [tokens.gather(x, split.visible_ids), jnp.full((3, 4, 4), 9.0)],
        axis=1,
    )
    expected = np.where(np.asarray(split.hidden())[..., None], 9.0, x)
    np.testing.assert_array_equal(tokens.restore(row, split), expected)


def test_errors():
    x, ids = example()
    with pytest.raises(AssertionError):
        tokens.gather(x, ids[:2])
    with pytest.raises(AssertionError):
        tokens.gather(x[0], ids)
    with pytest.raises(ValueError, match="'take' or 'onehot', got 'dot'"):
        tokens.gather(x, ids, method="dot")
    with pytest.raises(AssertionError):
        tokens.scatter(x, ids, 6)  # six rows for four ids
    with pytest.raises(AssertionError):
        tokens.restore(x[:, :5], masking.from_scores(jnp.zeros((3, 6)), num_visible=2))
