"""Loss terms and their total."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskjax.losses import Term, squared_error, total


def test_total_is_the_weighted_sum_of_means():
    terms = {
        "a": Term(jnp.float32(6), 3),
        "b": Term(jnp.float32(4), jnp.float32(8), 0.5),
        "c": Term(jnp.float32(1), np.int64(2), jnp.float32(3)),
    }
    assert total(terms) == 6 / 3 + 0.5 * 4 / 8 + 3 * 1 / 2
    assert total(terms).dtype == jnp.float32


def test_given_weights_stand_in_for_the_terms_own():
    terms = {"a": Term(jnp.float32(6), 3), "b": Term(jnp.float32(4), 8)}
    assert total(terms, {"a": 12.0, "b": jnp.float32(2)}) == 6 / 12 + 4 / 2


@pytest.mark.parametrize("weight", [0, 0.0, jnp.float32(0)])
def test_weight_zero_counts_zero_with_no_gradient(weight):
    value, gradient = jax.value_and_grad(lambda s: total({"a": Term(s, weight)}))(5.0)
    assert value == 0
    assert gradient == 0
    both = lambda s: total({"a": Term(s, weight), "b": Term(2 * s, 4)})  # noqa: E731
    assert jax.value_and_grad(both)(6.0) == (3.0, 0.5)


def test_weights_carry_no_gradient():
    loss = lambda x: total({"a": Term(x * 4, x * 2)})  # noqa: E731
    assert jax.value_and_grad(loss)(3.0) == (2.0, 4 / 6)
    given = lambda x: total({"a": Term(x, 1)}, {"a": x})  # noqa: E731
    assert jax.grad(given)(2.0) == 0.5


def test_no_terms_is_an_error():
    with pytest.raises(ValueError, match="returned no loss terms"):
        total({})


def test_squared_error_is_the_mean_over_the_values_of_a_patch():
    rng = np.random.default_rng(0)
    prediction, target = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    expected = ((prediction - target) ** 2).mean(-1)
    np.testing.assert_allclose(squared_error(prediction, target), expected, rtol=1e-6)
    low = squared_error(jnp.asarray(prediction, jnp.bfloat16), jnp.asarray(target))
    assert low.dtype == jnp.float32
    with pytest.raises(AssertionError):
        squared_error(prediction, target[..., :1])
