"""Encoder, decoder, classifier: initial values, positions, pooling, types."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from maskjax import masking
from maskjax.nn.decoder import Decoder
from maskjax.nn.position import sincos_2d
from maskjax.nn.vit import SIZES, Classifier, Compute, Encoder, Size

SIZE, GRID, P = Size(32, 2, 4, 2.0), (2, 3), 12
COMPUTE = Compute(scan=False)
PATCHES = np.random.default_rng(0).normal(size=(2, 6, P)).astype(np.float32)


def filled(module, *args):
    """Parameters of the module's shapes; its own initial values take seconds to compile."""
    return tiny.filled(jax.eval_shape(module.init, jax.random.key(0), *args)["params"])


def initial(module, *path):
    """The initial values at a path; only these are computed."""

    @jax.jit
    def run(key):
        tree = module.init(key, PATCHES)["params"]
        for name in path:
            tree = tree[name]
        return tree

    return run(jax.random.key(0))


def apply(module, params, *args, taps=()):
    """The module, compiled at once."""
    taps = {"taps": taps} if taps else {}
    return jax.jit(lambda p, *a: module.apply({"params": p}, *a, **taps))(params, *args)


def encoder(**options):
    return Encoder(SIZE, GRID, P, **{"compute": COMPUTE, **options})


@pytest.fixture(scope="module")
def params():
    return initial(encoder())


def uniform_within(values, limit):
    """Whether the values fill U(-limit, limit)."""
    values = np.asarray(values)
    assert np.abs(values).max() <= limit
    assert np.abs(values).max() > 0.9 * limit
    np.testing.assert_allclose(values.std(), limit / math.sqrt(3), rtol=0.15)


def test_initial_values_are_the_official_ones(params):
    dim, hidden = SIZE.dim, 64
    attn, mlp = params["blocks"]["attn"], params["blocks"]["mlp"]
    for name in ("query", "key", "value"):  # one (3D, D) matrix in the official code
        for index in range(SIZE.depth):
            uniform_within(attn[name]["kernel"][index], math.sqrt(6 / (dim + 3 * dim)))
    uniform_within(attn["out"]["kernel"], math.sqrt(6 / (dim + dim)))
    uniform_within(mlp["fc1"]["kernel"], math.sqrt(6 / (dim + hidden)))
    uniform_within(mlp["fc2"]["kernel"], math.sqrt(6 / (dim + hidden)))
    uniform_within(params["patch_embed"]["kernel"], math.sqrt(6 / (P + dim)))
    uniform_within(params["patch_embed"]["bias"], 1 / math.sqrt(P))
    assert 0.01 < np.std(params["cls_token"]) < 0.03
    for module in (*attn.values(), *mlp.values(), params["blocks"]["norm1"], params["norm"]):
        assert not np.any(module["bias"])
    for norm in (params["blocks"]["norm1"], params["blocks"]["norm2"], params["norm"]):
        assert np.all(norm["scale"] == 1)
    kernels = [np.asarray(attn[name]["kernel"]) for name in ("query", "key", "value")]
    assert not np.isclose(kernels[0], kernels[1]).any()
    assert not np.isclose(kernels[1], kernels[2]).any()


def test_parameter_names_and_shapes_are_the_frozen_ones(params):
    L, D, H, d, F = 2, 32, 4, 8, 64
    projection = {"kernel": (L, D, H, d), "bias": (L, H, d)}
    norm = {"scale": (L, D), "bias": (L, D)}
    expected = {
        "patch_embed": {"kernel": (P, D), "bias": (D,)},
        "cls_token": (D,),
        "norm": {"scale": (D,), "bias": (D,)},
        "blocks": {
            "norm1": norm,
            "norm2": norm,
            "attn": {
                **dict.fromkeys(("query", "key", "value"), projection),
                "out": {"kernel": (L, H, d, D), "bias": (L, D)},
            },
            "mlp": {
                "fc1": {"kernel": (L, D, F), "bias": (L, F)},
                "fc2": {"kernel": (L, F, D), "bias": (L, D)},
            },
        },
    }
    assert jax.tree.map(np.shape, params) == expected
    decoder = Decoder(Size(16, 1, 2), GRID, P, COMPUTE)
    split = masking.from_scores(jnp.zeros((1, 6)), num_visible=2)
    tree = jax.eval_shape(decoder.init, jax.random.key(0), jnp.zeros((1, 3, 32)), split)["params"]
    assert set(tree) == {"embed", "mask_token", "blocks", "norm", "pred"}
    assert tree["embed"]["kernel"].shape == (32, 16)
    assert tree["mask_token"].shape == (16,)
    assert tree["pred"]["kernel"].shape == (16, P)


def test_input_tokens_are_projection_plus_position_by_id(params):
    ids = jnp.array([[4, 1], [0, 5]])
    visible = masking.tokens.gather(PATCHES, ids)
    _, seen = apply(encoder(), params, visible, ids, taps=("input",))
    table = sincos_2d(GRID, SIZE.dim)
    projected = visible @ params["patch_embed"]["kernel"] + params["patch_embed"]["bias"]
    np.testing.assert_allclose(seen["input"][:, 1:], projected + table[ids], rtol=1e-5, atol=1e-5)
    for row in seen["input"][:, 0]:  # cls has a zero position
        np.testing.assert_array_equal(row, params["cls_token"])


def test_all_patches_is_the_identity_of_ids(params):
    plain, _ = apply(encoder(), params, PATCHES)
    ids = jnp.tile(jnp.arange(6), (2, 1))
    by_id, _ = apply(encoder(), params, PATCHES, ids)
    np.testing.assert_allclose(plain, by_id, rtol=1e-6, atol=1e-6)


def test_learned_positions_start_as_the_table_and_train():
    module = encoder(position="learned")
    params = filled(module, PATCHES)
    table = sincos_2d(GRID, SIZE.dim, cls=True)
    np.testing.assert_array_equal(initial(module, "pos_embed"), table)
    ids = jnp.array([[4, 1], [0, 1]])
    loss = lambda p: jnp.sin(module.apply({"params": p}, PATCHES[:, :2], ids)[0]).sum()  # noqa: E731
    gradient = jax.jit(jax.grad(loss))(params)["pos_embed"]
    used = np.abs(gradient).sum(1) > 0
    np.testing.assert_array_equal(used, [True, True, True, False, False, True, False])


def test_the_final_norm_is_optional(params):
    bare = jax.eval_shape(encoder(final_norm=False).init, jax.random.key(0), PATCHES)
    assert "norm" not in bare["params"]
    out, seen = apply(encoder(), params, PATCHES, taps=("block/-1",))
    rest = {name: leaf for name, leaf in params.items() if name != "norm"}
    raw, _ = apply(encoder(final_norm=False), rest, PATCHES)
    np.testing.assert_allclose(raw, seen["block/-1"], rtol=1e-6, atol=1e-6)
    assert not np.isclose(raw, out).all()


def test_bfloat16_returns_float32_latents(params):
    low = encoder(compute=Compute(jnp.bfloat16, scan=False))
    latent, seen = apply(low, params, PATCHES, taps=("block/0",))
    assert latent.dtype == jnp.float32
    assert seen["block/0"].dtype == jnp.bfloat16
    assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    full, _ = apply(encoder(), params, PATCHES)
    assert np.abs(latent - full).max() < 0.05 * np.abs(full).max()


@pytest.mark.parametrize("pool", ["gap", "cls"])
def test_classifier_pools(pool):
    module = Classifier(SIZE, GRID, 5, pool, COMPUTE)
    params = filled(module, PATCHES)
    assert ("norm" in params["encoder"]) == (pool == "cls")
    assert ("fc_norm" in params) == (pool == "gap")
    features, logits = apply(module, params, PATCHES)
    inner = Encoder(SIZE, GRID, P, COMPUTE, "learned", final_norm=pool == "cls")
    tokens, _ = apply(inner, params["encoder"], PATCHES)
    expected = np.asarray(tokens[:, 0])
    if pool == "gap":
        mean = np.asarray(tokens[:, 1:]).mean(1)
        spread = np.sqrt(mean.var(-1, keepdims=True) + 1e-6)
        norm = params["fc_norm"]
        expected = (mean - mean.mean(-1, keepdims=True)) / spread * norm["scale"] + norm["bias"]
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
    head = features @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(logits, head, rtol=1e-4, atol=1e-5)
    assert 1e-5 < np.std(initial(module, "head", "kernel")) < 3e-5
    assert not np.any(initial(module, "head", "bias"))


def test_decoder_predicts_hidden_tokens_and_all_on_request():
    decoder = Decoder(Size(16, 1, 2), GRID, P, COMPUTE)
    split = masking.random(jax.random.uniform(jax.random.key(1), (2, 6)), GRID, num_visible=2)
    latent = np.random.default_rng(0).normal(size=(2, 3, 32)).astype(np.float32)
    params = filled(decoder, latent, split)
    hidden, seen = apply(decoder, params, latent, split, taps=("all", "input"))
    assert hidden.shape == (2, 4, P)
    assert seen["all"].shape == (2, 6, P)
    np.testing.assert_allclose(seen["all"][:, 2:], hidden, rtol=1e-5, atol=1e-6)
    token = params["mask_token"]
    table = sincos_2d(GRID, 16)
    expected = token + table[split.hidden_ids]
    np.testing.assert_allclose(seen["input"][:, 3:], expected, rtol=1e-6, atol=1e-6)


def test_named_sizes():
    shapes = {name: (s.dim, s.depth, s.heads) for name, s in SIZES.items()}
    assert shapes["tiny"] == (192, 12, 3)
    assert shapes["s"] == (384, 12, 6)
    assert shapes["b"] == (768, 12, 12)
    assert shapes["l"] == (1024, 24, 16)
    assert shapes["h"] == (1280, 32, 16)
    for size in SIZES.values():
        assert size.dim % size.heads == 0
