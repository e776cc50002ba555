"""Attention masks against their definitions, entry by entry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax.masking import attend

SETTINGS = settings(max_examples=12, deadline=None, derandomize=True)
grids = st.sampled_from([(4,), (3, 2), (2, 2, 3)])
seeds = st.integers(0, 2**31)


def distances(grid, power):
    """|difference| ** power, added over the axes, for each pair of tokens."""
    places = np.array(list(np.ndindex(*grid)), float)
    return (np.abs(places[:, None] - places[None]) ** power).sum(-1)


@pytest.mark.parametrize(("queries", "more"), [(1, 0), (5, 0), (1, 4), (3, 2)])
def test_causal(queries, more):
    allow = np.asarray(attend.causal(queries, queries + more))
    assert allow.dtype == bool
    for q in range(queries):
        for k in range(queries + more):
            assert allow[q, k] == (k <= q + more)
    np.testing.assert_array_equal(attend.causal(queries), allow[:, more:])


@pytest.mark.parametrize(("chunks", "size"), [(1, 3), (4, 1), (3, 4)])
def test_chunk_causal_is_block_lower_triangular(chunks, size):
    allow = np.asarray(attend.chunk_causal(chunks, size))
    blocks = np.kron(np.tri(chunks), np.ones((size, size))).astype(bool)
    np.testing.assert_array_equal(allow, blocks)
    np.testing.assert_array_equal(attend.chunk_causal(chunks, 1), attend.causal(chunks))


def test_keys_and_owners():
    valid = jnp.array([[True, False, True], [True, True, True]])
    allow = attend.valid_keys(valid)
    assert allow.shape == (2, 1, 3)
    np.testing.assert_array_equal(allow[:, 0], valid)
    allow = attend.same_owner(jnp.array([2, 0, 2, 1]))
    expected = [[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(allow, np.array(expected, bool))


@SETTINGS
@given(st.sampled_from([1, 5]), st.floats(0, 1))
def test_soft_causal(num, softness):
    gain = attend.soft_causal(num, softness)
    expected = softness + (1 - softness) * np.tri(num)
    np.testing.assert_allclose(gain, expected, atol=1e-6)
    assert gain.dtype == jnp.float32
    assert np.asarray(attend.soft_causal(num, 1.0)).all()


@pytest.mark.parametrize("num_steps", [0, 1, 2, 15])
def test_schedules(num_steps):
    steps = np.arange(20)
    linear = attend.soft_causal_schedule(steps, num_steps=num_steps, kind="linear")
    expected = np.concatenate([np.linspace(1, 0, num_steps), np.zeros(20)])[:20]
    np.testing.assert_allclose(linear, expected, atol=1e-6)
    constant = attend.soft_causal_schedule(steps, num_steps=num_steps, kind="constant", start=0.7)
    np.testing.assert_allclose(constant, np.where(steps < num_steps, 0.7, 0), atol=1e-6)


def test_a_schedule_does_not_recompile():
    traced = []

    @jax.jit
    def gain(step):
        traced.append(step)
        softness = attend.soft_causal_schedule(step, num_steps=4, kind="linear")
        return attend.soft_causal(3, softness)

    values = [float(gain(step)[0, 2]) for step in range(5)]
    np.testing.assert_allclose(values, [1, 2 / 3, 1 / 3, 0, 0], atol=1e-6)
    assert len(traced) == 1


@SETTINGS
@given(grids, seeds)
def test_gaussian_mixture_is_the_formula(grid, seed):
    rng = np.random.default_rng(seed)
    sigma, alpha = rng.normal(0, 2, (2, 5, 3))
    factor = attend.gaussian_mixture(grid, jnp.asarray(sigma), jnp.asarray(alpha))
    width = (2 * (sigma**2 + 1e-5))[..., None, None]
    expected = (alpha[..., None, None] * np.exp(-distances(grid, 2) / width)).sum(0)
    assert factor.shape == (3, expected.shape[1], expected.shape[1])
    np.testing.assert_allclose(factor, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(factor, factor.swapaxes(1, 2), atol=1e-6)


def test_gaussian_mixture_at_its_limits_and_its_gradient():
    grid, one = (14, 14), jnp.ones((1, 1))
    np.testing.assert_allclose(attend.gaussian_mixture(grid, 1e6 * one, one), 1, atol=1e-6)
    np.testing.assert_allclose(attend.gaussian_mixture(grid, 0 * one, one)[0], np.eye(196))
    total = lambda sigma, alpha: attend.gaussian_mixture(grid, sigma, alpha).sum()  # noqa: E731
    for sigma in (0.0, 0.01, 10.0):
        by_sigma, by_alpha = jax.grad(total, (0, 1))(sigma * one, one)
        assert np.isfinite(by_sigma).all()
        assert np.isfinite(by_alpha).all()
    # Where powers of exp(-d**2) underflow the closed form does not.
    far = attend.gaussian_mixture(grid, 10 * one, one)[0, 0, -1]
    np.testing.assert_allclose(far, np.exp(-2 * 13**2 / 200), rtol=1e-4)


@SETTINGS
@given(grids, st.booleans())
def test_distance_decay(grid, causal):
    gamma = np.array([0.5, 0.9, 1.0])
    gain = attend.distance_decay(grid, gamma, causal=causal)
    expected = gamma[:, None, None] ** distances(grid, 1)
    if causal:
        expected = expected * np.tri(expected.shape[1])
    np.testing.assert_allclose(gain, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: attend.causal(3, 2), "1 <= queries <= keys, got 3 and 2"),
        (lambda: attend.causal(0), "1 <= queries"),
        (lambda: attend.chunk_causal(2, 0), "chunk_size 0 must be >= 1"),
        (
            lambda: attend.soft_causal_schedule(0, num_steps=3, kind="cosine"),
            "'linear' or 'constant', got 'cosine'",
        ),
        (lambda: attend.soft_causal_schedule(0, num_steps=-1, kind="linear"), "num_steps"),
        (lambda: attend.gaussian_mixture((), jnp.ones(1), jnp.ones(1)), "1 to 3 axes"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_sigma_and_alpha_must_agree():
    with pytest.raises(AssertionError):
        attend.gaussian_mixture((2, 2), jnp.ones((5, 2)), jnp.ones((5, 3)))
