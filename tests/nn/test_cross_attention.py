"""The block that looks at a memory, against its formula in plain jnp."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import textbook
import tiny

from maskjax.nn.cross_attention import CrossBlock
from maskjax.nn.stack import Stack
from maskjax.nn.variant_block import Variant

DIM, HEADS, QUERIES, KEYS = 8, 2, 3, 5
RNG = np.random.default_rng(0)
X, POSITIONS = (jnp.asarray(RNG.normal(size=(2, QUERIES, DIM)), jnp.float32) for _ in range(2))
MEMORY, PLACES = (jnp.asarray(RNG.normal(size=(2, KEYS, DIM)), jnp.float32) for _ in range(2))
CAE = {"variant": Variant("query_value", layer_scale=0.1)}
# The decoders of MultiMAE look only at the context; CroCo's keep the residual.
MULTIMAE = {"own_norms": False, "with_queries": False, "from_normed": False, "residual": False}
KINDS = {"cae": CAE, "multimae": MULTIMAE, "croco": {**MULTIMAE, "residual": True}}


def block(**options):
    return CrossBlock(HEADS, 16, **options, parent=None)


def filled(model):
    shapes = jax.eval_shape(model.init, jax.random.key(0), X, None, None, MEMORY, POSITIONS, PLACES)
    return tiny.filled(shapes["params"])


def attend(p, queries, keys, values):
    """Cross-attention, biases where there are any."""
    q, k, v = (
        jnp.einsum("bnd,dhk->bhnk", x, p[name]["kernel"])
        + (p[name]["bias"][:, None] if "bias" in p[name] else 0)
        for name, x in zip(("query", "key", "value"), (queries, keys, values), strict=True)
    )
    weights = jax.nn.softmax(jnp.einsum("bhqk,bhnk->bhqn", q, k) / np.sqrt(q.shape[-1]), -1)
    mixed = jnp.einsum("bhqn,bhnk->bqhk", weights, v)
    return jnp.einsum("bqhk,hkd->bqd", mixed, p["out"]["kernel"]) + p["out"]["bias"]


def by_hand(p, kind):
    norm = textbook.layer_norm
    if kind == "cae":
        values = jnp.concatenate([MEMORY, X], 1)
        keys = values + jnp.concatenate([PLACES, POSITIONS], 1)
        keys, values = norm(p["norm1_k"], keys), norm(p["norm1_v"], values)
    else:
        keys, values = norm(p["norm1_kv"], MEMORY + PLACES), norm(p["norm1_kv"], MEMORY)
    branch = attend(p["attn"], norm(p["norm1_q"], X + POSITIONS), keys, values)
    if kind == "cae":
        normed = norm(p["norm2"], X + p["ls1"]["scale"] * branch)
        return normed + p["ls2"]["scale"] * textbook.mlp(p["mlp"], normed)
    h = branch + (X if kind == "croco" else 0)
    return h + textbook.mlp(p["mlp"], norm(p["norm2"], h))


@pytest.mark.parametrize("kind", KINDS)
def test_the_formula(kind):
    model = block(**KINDS[kind])
    params = filled(model)
    assert ("bias" in params["attn"]["key"]) == (kind != "cae")
    out, seen = model.apply({"params": params}, X, None, None, MEMORY, POSITIONS, PLACES)
    np.testing.assert_allclose(out, by_hand(params, kind), atol=2e-5)
    keys = KEYS + QUERIES * (kind == "cae")
    assert seen["attention"].shape == (2, HEADS, QUERIES, keys)


def test_a_stack_hands_its_context_to_every_layer():
    model = Stack(block(**CAE), 2, scan=False)
    context = (MEMORY, POSITIONS, PLACES)
    example = tuple(x[:1, :2] for x in context)
    params = jax.jit(lambda key: model.init(key, DIM, example))(jax.random.key(0))
    out, _ = model(params, X, context=context)
    x = X
    for i in range(2):
        layer = jax.tree.map(lambda leaf: leaf[i], params)  # noqa: B023
        x, _ = model.block.apply({"params": layer}, x, None, None, *context)
    np.testing.assert_allclose(out, x, atol=1e-6)


def test_cross_attention_starts_as_three_layers():
    """Xavier's limit of each [D, D] matrix, not of a fused [D, 3 D] one."""
    init = jax.jit(block(**CAE).init)
    kernels = [
        init(jax.random.key(i), X, None, None, MEMORY)["params"]["attn"]["query"]["kernel"]
        for i in range(8)
    ]
    limit = np.sqrt(6 / (2 * DIM))
    assert 0.95 * limit < np.abs(kernels).max() <= limit
