"""Distance of attention, and what it shares with who asks."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax.nn.attention_statistics import attention_distance, mutual_information


def test_distance_is_in_patches_and_leaves_the_class_token_out():
    own = jnp.eye(7)
    assert attention_distance(own, (2, 3)) == 0
    # Everyone looks at the first patch, and as much at the class token.
    first = jnp.zeros((7, 7)).at[:, :2].set(0.5)
    expected = np.mean([0, 1, 2, 1, np.sqrt(2), np.sqrt(5)])
    assert float(attention_distance(first, (2, 3))) == pytest.approx(expected, rel=1e-6)
    assert attention_distance(jnp.full((2, 4, 6, 6), 1 / 6), (2, 3), num_prefix=0).shape == (2, 4)


def test_information_is_0_where_all_look_alike_and_1_where_each_has_its_own():
    alike = jnp.tile(jnp.array([0.7, 0.2, 0.1]), (3, 1))
    assert float(mutual_information(alike)) == pytest.approx(0, abs=1e-6)
    assert float(mutual_information(jnp.eye(5))) == pytest.approx(1, abs=1e-6)
    half = jnp.kron(jnp.eye(2), jnp.full((2, 2), 0.5))
    assert float(mutual_information(half)) == pytest.approx(np.log(2) / np.log(4), rel=1e-5)


@given(st.integers(0, 99), st.integers(2, 6))
@settings(max_examples=25, deadline=None)
def test_information_lies_in_0_to_1_whatever_the_order(seed, num):
    rng = np.random.default_rng(seed)
    attention = rng.dirichlet(np.full(num, 0.3), num).astype(np.float32)
    value = float(mutual_information(jnp.asarray(attention)))
    assert -1e-5 <= value <= 1 + 1e-5
    moved = attention[rng.permutation(num)][:, rng.permutation(num)]
    assert float(mutual_information(jnp.asarray(moved))) == pytest.approx(value, abs=1e-5)
