"""Attention under masks against loops in numpy, and which of them a fused kernel may serve."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax.masking import attend, attention_ops
from maskjax.masking.fused import fused

SETTINGS = settings(max_examples=20, deadline=None, derandomize=True)
Q, K, D = 4, 5, 8
SIZES = {"num_queries": Q, "num_keys": K, "head_dim": D, "dtype": jnp.float32}
CUDNN = {"num_queries": 64, "num_keys": 64, "head_dim": 64, "dtype": jnp.bfloat16}


def example(seed=0, queries=Q):
    """scores, factor, bias, gain [2, Q, K] and allow with one empty and one full row."""
    rng = np.random.default_rng(seed)
    arrays = rng.normal(size=(4, 2, queries, K)).astype(np.float32)
    allow = rng.uniform(size=(2, queries, K)) < 0.5
    allow[0, 1], allow[1, 2] = False, True
    return (*arrays, allow)


def triple(seed=0, keys=K, queries=Q):
    rng = np.random.default_rng(seed)
    shapes = [(2, 3, queries, D), (2, 3, keys, D), (2, 3, keys, D)]
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def by_hand(scores, factor, bias, gain, allow, empty):
    """Row by row."""
    out = np.zeros(scores.shape)
    for index in np.ndindex(scores.shape[:-1]):
        keys = np.flatnonzero(allow[index])
        if not len(keys):
            if empty == "zero":
                continue
            keys = np.arange(scores.shape[-1])
        exp = np.exp(scores[index][keys].astype(float) * factor[index][keys] + bias[index][keys])
        out[index][keys] = exp / exp.sum() * gain[index][keys]
    return out


@SETTINGS
@given(st.integers(0, 2**31), st.sampled_from(["all", "zero"]))
def test_weights(seed, empty):
    scores, factor, bias, gain, allow = example(seed)
    options = {"factor": factor, "bias": bias, "gain": gain, "allow": allow, "empty": empty}
    found = attention_ops.weights(jnp.asarray(scores), **options)
    expected = by_hand(scores, factor, bias, gain, allow, empty)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_without_masks_it_is_the_softmax():
    scores = jnp.asarray(example()[0])
    np.testing.assert_array_equal(attention_ops.weights(scores), jax.nn.softmax(scores))
    everything = jnp.ones(scores.shape, bool)
    for allow in (everything, ~everything):
        found = attention_ops.weights(scores, allow=allow)
        np.testing.assert_array_equal(found, jax.nn.softmax(scores))
    assert not attention_ops.weights(scores, allow=~everything, empty="zero").any()


def test_unblock_empty():
    allow = jnp.asarray(example()[-1])
    found = np.asarray(attention_ops.unblock_empty(allow))
    assert found[0, 1].all()
    others = np.ones((2, Q), bool)
    others[0, 1] = False
    np.testing.assert_array_equal(found[others], allow[others])
    assert found.any(-1).all()


def test_a_bias_of_minus_infinity_blocks_and_makes_no_nan():
    scores = jnp.asarray(example()[0])
    allow = np.ones(scores.shape, bool)
    allow[..., 2] = False
    bias = jnp.where(allow, 0, -jnp.inf)
    blocked = attention_ops.weights(scores, bias=bias)
    np.testing.assert_allclose(blocked, attention_ops.weights(scores, allow=allow), rtol=1e-6)
    total = lambda s, b: jnp.square(attention_ops.weights(s, bias=b)).sum()  # noqa: E731
    nothing = jnp.full(scores.shape, -jnp.inf)
    np.testing.assert_allclose(attention_ops.weights(scores, bias=nothing), 1 / K)
    for b in (bias, nothing):
        assert np.isfinite(jax.grad(total)(scores, b)).all()


def test_blocked_keys_are_not_seen_and_have_no_gradient():
    query, key, value = triple()
    allow = np.ones((Q, K), bool)
    allow[:, 1] = False
    other = lambda x: x.at[..., 1, :].set(1e3)  # noqa: E731
    run = lambda k, v: attention_ops.attend(query, k, v, allow=allow)  # noqa: E731
    np.testing.assert_array_equal(run(key, value), run(other(key), other(value)))
    gradients = jax.grad(lambda k, v: jnp.square(run(k, v)).sum(), (0, 1))(key, value)
    for gradient in gradients:
        assert not np.asarray(gradient)[..., 1, :].any()
        assert np.asarray(gradient)[..., 2, :].any()


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_a_key_of_a_share_weighs_that_much(share):
    """Two copies of a key with shares s and 1 - s are one key."""
    query, key, value = triple()
    twice = [jnp.concatenate([x, x[..., :1, :]], -2) for x in (key, value)]
    shares = jnp.array([share, 1, 1, 1, 1, 1 - share])
    found = attention_ops.attend(query, *twice, bias=attention_ops.key_bias(shares))
    np.testing.assert_allclose(found, attention_ops.attend(query, key, value), atol=1e-5)
    plain = attention_ops.weights(jnp.zeros((Q, K)), bias=attention_ops.key_bias(jnp.ones(K)))
    np.testing.assert_allclose(plain, 1 / K)


def test_key_bias_of_nothing_is_finite():
    bias = attention_ops.key_bias(jnp.zeros(K))
    np.testing.assert_allclose(attention_ops.weights(jnp.ones((Q, K)), bias=bias), 1 / K)


def test_soft_causal_attention_follows_the_paper():
    query, key, value = triple(keys=Q)
    gain = lambda s: attend.soft_causal(Q, s)  # noqa: E731
    run = lambda s: attention_ops.attend(query, key, value, gain=gain(s))  # noqa: E731
    np.testing.assert_allclose(run(1.0), attention_ops.attend(query, key, value), atol=1e-6)
    np.testing.assert_allclose(run(0.3), 0.3 * run(1.0) + 0.7 * run(0.0), atol=1e-6)
    scores = jnp.einsum("...qd,...kd->...qk", query, key)
    past = np.asarray(jax.nn.softmax(scores)) * np.tri(Q)
    weights = np.asarray(attention_ops.weights(scores, gain=gain(0.0)))
    np.testing.assert_allclose(weights.sum(-1), past.sum(-1), rtol=1e-5)
    assert (weights.sum(-1)[..., :-1] < 1).all()
    np.testing.assert_allclose(weights.sum(-1)[..., -1], 1, rtol=1e-5)


def test_gaussian_mixture_attention_at_its_limits():
    scores, one = jnp.asarray(np.random.default_rng(0).normal(size=(6, 6))), jnp.ones(1)
    mixture = lambda sigma, alpha: attend.gaussian_mixture((2, 3), sigma * one, alpha * one)  # noqa: E731
    plain = attention_ops.weights(scores, factor=mixture(1e6, 1.0))
    np.testing.assert_allclose(plain, jax.nn.softmax(scores), atol=1e-5)
    uniform = attention_ops.weights(scores, factor=mixture(2.0, 0.0))
    np.testing.assert_allclose(uniform, 1 / 6, atol=1e-6)
    diagonal = attention_ops.weights(scores, factor=mixture(0.0, 1.0))
    np.testing.assert_allclose(diagonal, jax.nn.softmax(scores * np.eye(6)), atol=1e-6)


@pytest.mark.parametrize("mode", ["zero_key", "neg_inf"])
def test_key_masked_attention(mode):
    query, key, value = triple()
    keep = jnp.ones((1, 1, K)).at[..., 2].set(0)
    run = lambda k, v, keep: attention_ops.key_masked_attention(query, k, v, keep, mode=mode)  # noqa: E731
    plain = attention_ops.attend(query, key, value)
    np.testing.assert_array_equal(run(key, value, jnp.ones((1, 1, K))), plain)
    masked = run(key, value, keep)
    assert not np.isclose(masked, plain).all()
    other = lambda x: x.at[..., 2, :].add(3.0)  # noqa: E731
    np.testing.assert_array_equal(run(other(key), value, keep), masked)
    same = np.isclose(run(key, other(value), keep), masked).all()
    assert same == (mode == "neg_inf")


def test_zero_key_masks_attenuate_and_take_fractions():
    query, key, value = triple()
    keep = jnp.array([1.0, 0.3, 0.0, 1.0, 0.7])[None, None]
    found = attention_ops.key_masked_attention(query, key, value, keep)
    scores = np.einsum("bhqd,bhkd->bhqk", query, key) / np.sqrt(D) * np.asarray(keep)[..., None, :]
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    np.testing.assert_allclose(found, weights @ np.asarray(value), atol=1e-5)


def test_results_keep_the_type_of_the_value():
    half = [x.astype(jnp.bfloat16) for x in triple()]
    found = attention_ops.attend(*half, allow=attend.causal(Q, K))
    assert found.dtype == jnp.bfloat16
    exact = attention_ops.attend(*triple(), allow=attend.causal(Q, K))
    np.testing.assert_allclose(found.astype(jnp.float32), exact, atol=0.05)


@pytest.mark.parametrize("allow_shape", [None, (2, 1, Q, K), (2, 1, 1, K)])
@pytest.mark.parametrize("biased", [True, False])
def test_xla_serves_what_it_is_said_to(allow_shape, biased):
    rng, (query, key, value) = np.random.default_rng(3), triple()
    allow = None if allow_shape is None else jnp.asarray(rng.uniform(size=allow_shape) < 0.5)
    if allow is not None:
        allow = attention_ops.unblock_empty(allow.at[0, 0, 0].set(False))
    bias = jnp.asarray(rng.normal(size=(1, 3, Q, K)), jnp.float32) if biased else None
    assert fused("xla", **SIZES, allow=allow, bias=bias)
    swapped = (x.swapaxes(1, 2) for x in (query, key, value))
    kernel = jax.nn.dot_product_attention(*swapped, bias=bias, mask=allow, implementation="xla")
    ours = attention_ops.attend(query, key, value, allow=allow, bias=bias)
    np.testing.assert_allclose(kernel.swapaxes(1, 2), ours, atol=1e-5)


@pytest.mark.parametrize("kernel", ["xla", "cudnn"])
@pytest.mark.parametrize(
    ("masks", "reason"),
    [
        ({"factor": jnp.ones((64, 64))}, "factor multiplies the scores inside"),
        ({"gain": jnp.ones((64, 64))}, "gain multiplies the weights after"),
        ({"need_weights": True}, "never has the attention weights"),
        ({"allow": jnp.ones((1, 1, 1, 64, 64), bool)}, "allow has shape"),
    ],
)
def test_what_no_kernel_serves(kernel, masks, reason):
    served = fused(kernel, **CUDNN, **masks)
    assert not served
    assert len(served.reasons) == 1
    assert reason in served.reasons[0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"dtype": jnp.float32}, "got float32"),
        ({"head_dim": 60}, "got 60"),
        ({"head_dim": 192}, "head_dim <= 128"),
        ({"head_dim": 192, "head_dim_limit": 256}, None),
        ({"allow": jnp.ones((2, 1, 1, 64), bool)}, "broadcast them"),
        ({"allow": jnp.ones((64, 64), bool)}, None),
        ({"allow": jnp.ones((1, 64), bool), "bias": jnp.zeros((64, 64))}, None),
        ({"num_queries": 63}, None),
        ({"num_queries": 63, "bias": jnp.zeros((63, 64))}, "even numbers"),
        ({"num_queries": 63, "bias": jnp.zeros((63, 64)), "training": False}, None),
    ],
)
def test_limits_of_cudnn(changes, reason):
    served = fused("cudnn", **{**CUDNN, **changes})
    assert served.ok == (reason is None)
    if reason:
        assert reason in " ".join(served.reasons)


def test_looks_at_shapes_only():
    allow = jax.ShapeDtypeStruct((64, 64), bool)
    assert fused("cudnn", **CUDNN, allow=allow)
    assert jax.jit(lambda allow: fused("cudnn", **CUDNN, allow=allow).ok)(jnp.ones((64, 64), bool))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: attention_ops.weights(jnp.ones((1, 2)), empty="none"), "'all' or 'zero'"),
        (
            lambda: attention_ops.key_masked_attention(*triple(), jnp.ones(K), mode="off"),
            "got 'off'",
        ),
        (lambda: fused("pallas", **SIZES), "'xla' or 'cudnn', got 'pallas'"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
