"""CRATE-MAE: the invariants of its layers and of the masked autoencoder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from maskjax import losses
from maskjax.errors import UserError
from maskjax.masking import Draws
from maskjax.method import build_method
from maskjax.nn.crate import CrateBlock, CrateDecoderBlock, Ista, TiedAttention
from maskjax.nn.norm import LayerNorm

MODEL = {
    "image_size": (8, 8),
    "patch_size": 2,
    "dim": 16,
    "depth": 2,
    "decoder_depth": 2,
    "heads": 2,
    "norm_pix": True,
}
BATCH = tiny.batch(3)


@pytest.fixture(scope="module")
def crate():
    return build_method("mim.crate_mae", MODEL, BATCH)


@pytest.fixture(scope="module")
def params(crate):
    return tiny.params(crate, BATCH)


@pytest.fixture(scope="module")
def loss(crate):
    """(params, float image, noise) -> loss and its gradient by the image."""

    def value(params, image, noise):
        draws = Draws.replay({"mask": noise})
        terms, _ = crate.phases[0].fn(params, {}, {"image": image}, draws, 0, None)
        return losses.total(terms)

    return jax.jit(jax.value_and_grad(value, (0, 1)))


@pytest.fixture(scope="module")
def activations(crate):
    def run(params, image, noise):
        return crate.predict["activations"](
            params, {}, {"image": image}, Draws.replay({"mask": noise})
        )

    return jax.jit(run)


IMAGE = jnp.asarray((BATCH["image"] / 255 - 0.45) / 0.22, jnp.float32)
NOISE = jnp.asarray(np.random.default_rng(0).uniform(size=(3, 16)), jnp.float32)
TOKENS = jnp.asarray(np.random.default_rng(1).normal(size=(2, 5, 16)), jnp.float32)


def pixels_of(tokens):
    """bool[3, 16] over patches -> bool[3, 8, 8, 1] over pixels."""
    cells = np.asarray(tokens).reshape(3, 4, 4)
    return np.repeat(np.repeat(cells, 2, 1), 2, 2)[..., None]


def filled(module, *args):
    return tiny.filled(jax.eval_shape(module.init, jax.random.key(0), *args)["params"])


def test_1_encoder_layers_give_no_negative_values_and_the_decoder_may():
    for block, sign in ((CrateBlock(2), 0.0), (CrateDecoderBlock(2), -np.inf)):
        out, _ = block.apply({"params": filled(block, TOKENS)}, TOKENS)
        assert out.min() >= sign
    assert out.min() < 0


def test_2_more_sparsity_more_zeros():
    shares = []
    for sparsity in (0.0, 0.5, 5.0, 20.0):
        ista = Ista(sparsity=sparsity)
        shares.append(float((ista.apply({"params": filled(ista, TOKENS)}, TOKENS) == 0).mean()))
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[1] < shares[-1]


def test_3_tied_attention_is_symmetric_with_squared_norms_on_the_diagonal():
    attention = TiedAttention(2)
    _, seen = attention.apply({"params": filled(attention, TOKENS)}, TOKENS)
    subspace = np.asarray(seen["subspace"])
    scores = np.einsum("bhqd,bhkd->bhqk", subspace, subspace)
    expected = np.asarray(jax.nn.softmax(jnp.asarray(scores) * 8**-0.5, -1))
    np.testing.assert_allclose(seen["attention"], expected, atol=1e-6)
    np.testing.assert_allclose(scores, scores.swapaxes(-1, -2), atol=1e-5)
    diagonal = np.diagonal(scores, axis1=-2, axis2=-1)
    np.testing.assert_allclose(diagonal, np.square(subspace).sum(-1), rtol=1e-5)


def test_3_one_subspace_has_no_output_projection():
    attention = TiedAttention(1)
    params = filled(attention, TOKENS)
    assert set(params) == {"subspace"}
    out, seen = attention.apply({"params": params}, TOKENS)
    np.testing.assert_allclose(out, (seen["attention"] @ seen["subspace"])[:, 0], atol=1e-5)


def test_4_an_orthogonal_dictionary_simplifies_ista():
    rotation = jnp.asarray(np.linalg.qr(np.random.default_rng(2).normal(size=(16, 16)))[0])
    found = Ista(0.2, 0.3).apply({"params": {"dictionary": rotation}}, TOKENS)
    expected = jax.nn.relu(TOKENS + 0.2 * (TOKENS @ rotation - TOKENS) - 0.2 * 0.3)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_4_ista_is_a_step_down_its_objective():
    """0.5 |u - D z|^2 + lam |z|_1 from z = u, for z >= 0: the step lowers it."""
    ista = Ista(0.01, 0.5)
    dictionary = filled(ista, TOKENS)["dictionary"]
    code = ista.apply({"params": {"dictionary": dictionary}}, TOKENS)

    def objective(z):
        return 0.5 * jnp.square(TOKENS - z @ dictionary.T).sum(-1) + 0.5 * z.sum(-1)

    assert (objective(code) < objective(jax.nn.relu(TOKENS))).all()


def test_5_a_decoder_layer_without_output_projection_is_linear_in_its_norm():
    block = CrateDecoderBlock(2)
    params = filled(block, TOKENS)
    params["attn"]["out"] = jax.tree.map(jnp.zeros_like, params["attn"]["out"])
    normed = LayerNorm(1e-5).apply({"params": params["norm1"]}, TOKENS)
    out, _ = block.apply({"params": params}, TOKENS)
    np.testing.assert_allclose(out, normed @ params["dictionary"].T, atol=1e-5)


def test_6_visible_targets_and_hidden_pixels_do_not_matter(loss, activations, params):
    hidden = pixels_of(activations(params, IMAGE, NOISE)["hidden"])
    other = jnp.where(hidden, -IMAGE, IMAGE)
    before, after = (activations(params, image, NOISE) for image in (IMAGE, other))
    np.testing.assert_array_equal(before["prediction"], after["prediction"])
    np.testing.assert_array_equal(before["latent"], after["latent"])
    # The gradient by visible pixels comes through the encoder only, never through the target.
    value, _ = loss(params, IMAGE, NOISE)
    patches, hidden = before["prediction"], np.asarray(before["hidden"])
    target = jax.vmap(lambda image: image.reshape(4, 2, 4, 2, 3).swapaxes(1, 2))(IMAGE)
    target = np.asarray(target).reshape(3, 16, 12)
    centred = target - target.mean(-1, keepdims=True)
    target = centred / np.sqrt(target.var(-1, keepdims=True, ddof=1) + 1e-6)
    expected = np.square(np.asarray(patches) - target).mean(-1)[hidden].mean()
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_7_there_is_no_parameter_without_a_gradient(loss, params):
    _, (gradient, _) = loss(params, IMAGE, NOISE)
    assert all((np.asarray(leaf) != 0).any() for leaf in jax.tree.leaves(gradient))
    assert not {"pos_embed", "decoder_embed"} & set(gradient)


def test_8_the_parameter_count_of_base_is_the_papers():
    abstract = {"image": jax.ShapeDtypeStruct((1, 224, 224, 3), np.uint8)}
    method = build_method("mim.crate_mae", {}, abstract)
    params, _ = jax.eval_shape(method.init, jax.random.key(0), abstract)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    dim, unused = 768, 768 * 768 + 768  # the official decoder_embed, which is never used
    stems = (768 * dim + dim) + 2 * dim + 2 * 2 * dim + (dim * 768 + 768)
    assert count == 12 * (3 * dim**2 + 5 * dim) * 2 + stems
    assert round((count + 2 * 197 * dim + unused) / 1e6, 1) == pytest.approx(44.6, abs=0.25)


def test_features_of_whole_images_and_what_layers_do(crate, params):
    fields = {"image": IMAGE}
    found = jax.jit(lambda p: crate.predict["layers"](p, {}, fields, None))(params)
    assert found["encoder"].shape == found["decoder"].shape == (3, 2, 17, 16)
    assert found["subspace"].shape == (3, 2, 2, 17, 8)
    assert found["attention"].shape == (3, 2, 2, 16)
    np.testing.assert_array_equal(found["prenorm"], found["encoder"][:, -1])
    features = crate.predict["encode"](params, {}, fields, None)
    assert features["tokens"].shape == (3, 16, 16)
    rates = jax.jit(lambda p: crate.predict["rates"](p, {}, fields, None))(params)
    zeros = (found["encoder"] == 0).mean((2, 3))
    np.testing.assert_allclose(rates["encoder_zeros"], zeros, atol=1e-6)
    assert 0 < zeros.min() < zeros.max() < 1
    subspace = np.asarray(found["subspace"], np.float64)
    singular = np.linalg.svd(subspace, compute_uv=False)
    expected = 0.5 * np.log1p(8 / (17 * 0.25) * singular**2).sum((-2, -1))
    np.testing.assert_allclose(rates["encoder_rate"], expected, rtol=1e-4)
    assert rates["decoder_rate"].shape == (3, 2)


ERRORS = {
    r"config\.model\.heads = 3: must divide model\.dim = 16": {"heads": 3},
    r"config\.model\.dim = 18: must be a multiple of 4": {"dim": 18},
    r"config\.model\.depth = 0: must be positive": {"depth": 0},
    r"config\.model\.sparsity = -1": {"sparsity": -1},
    r"config\.model\.mask_ratio = 1\.0": {"mask_ratio": 1.0},
}


@pytest.mark.parametrize("message", ERRORS)
def test_build_errors_name_the_config_path(message):
    with pytest.raises(UserError, match=message):
        build_method("mim.crate_mae", {**MODEL, **ERRORS[message]}, BATCH)
