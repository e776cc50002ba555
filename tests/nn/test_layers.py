"""Dense, LayerNorm, attention, MLP and block against their formulas in numpy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from maskjax.nn.attention import Attention
from maskjax.nn.block import Block, Mlp
from maskjax.nn.dense import Dense
from maskjax.nn.norm import LayerNorm, batch_moments, batch_norm, update_running_moments

RNG = np.random.default_rng(0)
B, N, D, HEADS = 2, 5, 8, 2


def tokens(seed=0):
    return np.random.default_rng(seed).normal(1, 2, (B, N, D)).astype(np.float32)


def perturbed(module, *args, **kwargs):
    """Parameters of a module with nothing left at 0 or 1."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *args, **kwargs)
    return jax.tree.map(np.asarray, tiny.filled(shapes["params"]))


def apply(module, params, *args, **kwargs):
    """`module.apply`, compiled at once."""
    return jax.jit(lambda p, a, k: module.apply({"params": p}, *a, **k))(params, args, kwargs)


def layer_norm(p, x, eps=1e-6):
    x = x.astype(np.float64)
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * p["scale"] + p["bias"]


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def mlp(p, x):
    hidden = gelu(x @ p["fc1"]["kernel"].astype(np.float64) + p["fc1"]["bias"])
    return hidden @ p["fc2"]["kernel"] + p["fc2"]["bias"]


def attention(p, x, allow=None, bias=0.0):
    """One head after the other."""
    out = np.zeros_like(x, np.float64) + p["out"]["bias"]
    weights = np.zeros((len(x), HEADS, x.shape[1], x.shape[1]))
    for head in range(HEADS):
        q, k, v = (
            x @ p[name]["kernel"][:, head].astype(np.float64) + p[name]["bias"][head]
            for name in ("query", "key", "value")
        )
        scores = q @ k.swapaxes(1, 2) / math.sqrt(D // HEADS) + bias
        if allow is not None:
            scores = np.where(allow, scores, -np.inf)
        exp = np.exp(scores - scores.max(-1, keepdims=True))
        weights[:, head] = exp / exp.sum(-1, keepdims=True)
        out += weights[:, head] @ v @ p["out"]["kernel"][head]
    return out, weights


def close(a, b, tolerance=2e-5):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_dense_over_several_axes():
    x = RNG.normal(size=(3, 2, 4)).astype(np.float32)
    module = Dense((5, 6), 2)
    params = perturbed(module, x)
    assert params["kernel"].shape == (2, 4, 5, 6)
    out = apply(module, params, x)
    close(out, np.einsum("bij,ijkl->bkl", x, params["kernel"]) + params["bias"])
    assert set(perturbed(Dense(3, use_bias=False), x)) == {"kernel"}


@pytest.mark.parametrize("eps", [1e-6, 1e-2])
def test_layer_norm(eps):
    module, x = LayerNorm(eps), tokens() + 100
    params = perturbed(module, x)
    close(apply(module, params, x), layer_norm(params, x, eps), 1e-4)


def test_layer_norm_of_bfloat16_has_float32_statistics():
    x = jnp.asarray(tokens() + 50, jnp.bfloat16)
    module = LayerNorm(dtype=jnp.bfloat16)
    params = perturbed(module, x)
    out = apply(module, params, x)
    assert out.dtype == jnp.bfloat16
    close(out.astype(jnp.float32), layer_norm(params, np.asarray(x, np.float32)), 1e-2)


def test_mlp():
    module, x = Mlp(12), tokens()
    params = perturbed(module, x)
    close(apply(module, params, x), mlp(params, x))


@pytest.mark.parametrize("masked", ["no", "shared", "per example"])
def test_attention(masked):
    module, x = Attention(HEADS), tokens()
    params = perturbed(module, x)
    allow = None
    if masked != "no":
        allow = RNG.uniform(size=(B if masked == "per example" else 1, 1, N, N)) < 0.6
        allow |= np.eye(N, dtype=bool)
    bias = RNG.normal(size=(1, 1, N, N)).astype(np.float32)
    out, seen = apply(module, params, x, allow=allow, bias=bias)
    plain = None if allow is None else allow[:, 0]
    expected, weights = attention(params, x, plain, bias[:, 0])
    close(out, expected)
    close(seen["attention"], weights)
    if allow is not None:
        assert not np.asarray(seen["attention"])[~np.broadcast_to(allow, weights.shape)].any()
    query = np.einsum("bnd,dhk->bhnk", x, params["query"]["kernel"])
    close(seen["query"], query + params["query"]["bias"][:, None])
    assert {k: v.shape for k, v in seen.items()} == {
        **dict.fromkeys(("query", "key", "value"), (B, HEADS, N, D // HEADS)),
        "attention": (B, HEADS, N, N),
    }


@pytest.mark.parametrize("rank", [2, 3, 4])
@pytest.mark.parametrize("gradient", [False, True])
def test_fused_attention_equals_einsum(rank, gradient):
    x = tokens()
    params = perturbed(Attention(HEADS), x)
    allow = RNG.uniform(size=(B, HEADS, N, N)[4 - rank :]) < 0.6
    allow |= np.eye(N, dtype=bool)

    def run(implementation):
        def loss(params, x):
            module = Attention(HEADS, implementation=implementation)
            out, _ = apply(module, params, x, allow=allow)
            return jnp.sin(out).sum(), out

        if gradient:
            return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, x)[0]
        return jax.jit(loss)(params, x)[1]

    jax.tree.map(lambda a, b: close(a, b, 1e-5), run("xla"), run("einsum"))


@pytest.mark.parametrize("implementation", ["einsum", "xla"])
def test_a_query_that_may_attend_to_nothing_gives_no_nan(implementation):
    module, x = Attention(HEADS, implementation=implementation), tokens()
    params = perturbed(module, x)
    allow = np.ones((1, 1, N, N), bool)
    allow[..., 2, :] = False
    loss = lambda x: apply(module, params, x, allow=allow)[0].sum()  # noqa: E731
    value, gradient = jax.jit(jax.value_and_grad(loss))(x)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_biases_are_optional():
    module = Attention(HEADS, qkv_bias=False, out_bias=False)
    params = jax.eval_shape(module.init, jax.random.key(0), tokens())["params"]
    assert params.keys() == {"query", "key", "value", "out"}
    assert all(set(leaf) == {"kernel"} for leaf in params.values())


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="3 heads do not divide the width 8"):
        Attention(3).init(jax.random.key(0), tokens())


def test_block():
    module, x = Block(HEADS, mlp_hidden=12), tokens()
    params = perturbed(module, x)
    assert params["mlp"]["fc1"]["kernel"].shape == (D, 12)
    out, seen = apply(module, params, x)
    middle = x + attention(params["attn"], layer_norm(params["norm1"], x))[0]
    expected = middle + mlp(params["mlp"], layer_norm(params["norm2"], middle))
    close(out, expected, 1e-4)
    np.testing.assert_array_equal(seen["block"], out)
    scale = np.array([[0.0, 2.0], [1.0, 0.0]], np.float32)  # branch, example
    out, _ = apply(module, params, x, scale)
    branch = attention(params["attn"], layer_norm(params["norm1"], x))[0]
    middle = x + branch * scale[0][:, None, None]
    branch = mlp(params["mlp"], layer_norm(params["norm2"], middle))
    close(out, middle + branch * scale[1][:, None, None], 1e-4)


def test_bfloat16_has_float32_parameters_scores_and_softmax():
    module = Block(HEADS, 16, dtype=jnp.bfloat16)
    x = jnp.asarray(tokens(), jnp.bfloat16)
    params = perturbed(module, x)
    assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    out, seen = apply(module, params, x)
    assert out.dtype == jnp.bfloat16
    assert seen["query"].dtype == jnp.bfloat16
    assert seen["attention"].dtype == jnp.float32
    np.testing.assert_allclose(seen["attention"].sum(-1), 1, rtol=1e-5)
    full, _ = apply(Block(HEADS, 16), params, x.astype(jnp.float32))
    assert np.abs(out.astype(jnp.float32) - full).max() < 0.02 * np.abs(full).max()


def test_batch_norm_moments_and_running_values():
    x = RNG.normal(2, 3, (6, 4)).astype(np.float32)
    mean, var = batch_moments(x)
    close(mean, x.mean(0))
    close(var, x.var(0))
    close(batch_norm(x, mean, var), (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-6))
    running = (np.ones(4, np.float32), np.full(4, 2.0, np.float32))
    new = update_running_moments(running, (mean, var), 6, momentum=0.1)
    close(new[0], 0.9 * running[0] + 0.1 * x.mean(0))
    close(new[1], 0.9 * running[1] + 0.1 * x.var(0, ddof=1))
