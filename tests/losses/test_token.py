"""Cross-entropy over a vocabulary."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax.losses import cross_entropy


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), scale=st.sampled_from([0.1, 3.0, 50.0]))
def test_it_is_optax_without_a_gather(seed, scale):
    rng = np.random.default_rng(seed)
    logits = jnp.asarray(scale * rng.normal(size=(2, 3, 7)), jnp.float32)
    ids = jnp.asarray(rng.integers(0, 7, (2, 3)))
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, ids)
    np.testing.assert_allclose(cross_entropy(logits, ids), expected, rtol=1e-5, atol=1e-5)


def test_uniform_logits_of_bfloat16():
    found = cross_entropy(jnp.zeros((4, 8192), jnp.bfloat16), jnp.arange(4))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, np.log(8192), rtol=1e-6)


def test_the_gradient_has_no_scatter():
    fn = jax.grad(lambda x: cross_entropy(x, jnp.zeros(3, jnp.int32)).sum())
    assert "scatter" not in jax.jit(fn).lower(jnp.zeros((3, 5))).as_text()
