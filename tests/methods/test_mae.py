"""MAE: the invariants of its sheet, the textbook formulation, and what `build` refuses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import textbook
import tiny

from maskjax import losses
from maskjax.errors import UserError
from maskjax.masking import Draws, patchify, unpatchify
from maskjax.method import build_method
from maskjax.methods.mim.mae import DEFAULTS
from maskjax.train.state import create_state
from maskjax.train.step import make_train_step

MEAN, STD = (0.485, 0.456, 0.406, 0.5), (0.229, 0.224, 0.225, 0.25)
# name -> image size, patch, channels, ratio, norm_pix
SHAPES = {
    "square": ((8, 8), (2, 2), 3, 0.75, True),
    "raw pixels": ((8, 8), (2, 2), 3, 0.75, False),
    "flat image, flat patch": ((6, 20), (3, 4), 1, 0.6, True),
    "tall image, four channels": ((12, 8), (2, 4), 4, 0.5, True),
}


class Case:
    """A built method with parameters where nothing is at 0 or 1, a batch and its draws."""

    def __init__(self, size, patch, channels, ratio, norm_pix, num=3):
        self.patch = patch
        self.grid = (size[0] // patch[0], size[1] // patch[1])
        self.num_tokens = self.grid[0] * self.grid[1]
        self.num_visible = int(self.num_tokens * (1 - ratio))
        self.norm_pix = norm_pix
        self.model = {
            **tiny.MODEL,
            **{"image_size": size, "patch_size": patch, "channels": channels},
            **{"mean": MEAN[:channels], "std": STD[:channels]},
            **{"mask_ratio": ratio, "norm_pix": norm_pix},
        }
        pixels = tiny.images(num, size, channels)
        self.bytes = {"image": pixels, "position": tiny.positions(num)}
        image = (pixels / 255 - MEAN[:channels]) / np.asarray(STD[:channels])
        self.batch = {**self.bytes, "image": jnp.asarray(image, jnp.float32)}
        noise = np.random.default_rng(1).uniform(size=(num, self.num_tokens))
        self.noise = jnp.asarray(noise, jnp.float32)
        self.method = build_method("mim.mae", self.model, self.batch)
        params, _ = jax.jit(self.method.init)(jax.random.key(0), self.batch)
        rng = np.random.default_rng(2)
        shift = lambda p: p + 0.1 * rng.normal(size=p.shape).astype(np.float32)  # noqa: E731
        self.params = jax.tree.map(shift, params)

    def draws(self, noise=None):
        return Draws.replay({"mask": self.noise if noise is None else noise})

    def loss(self, params, batch=None, noise=None):
        draws = self.draws(noise)
        terms, _ = self.method.phases[0].fn(params, {}, batch or self.batch, draws, 0, None)
        return losses.total(terms)

    @functools.cached_property
    def activations(self):
        return jax.jit(lambda params, batch, noise: self._run("activations", params, batch, noise))

    @functools.cached_property
    def reconstruct(self):
        return jax.jit(lambda params, batch, noise: self._run("reconstruct", params, batch, noise))

    def _run(self, name, params, batch, noise):
        return self.method.predict[name](params, {}, batch, self.draws(noise))

    def textbook(self, params, image=None):
        image = self.batch["image"] if image is None else image
        return textbook.mae(
            params, image, self.noise, self.patch, self.num_visible, self.norm_pix
        )


@pytest.fixture(scope="module", params=SHAPES)
def case(request):
    return Case(*SHAPES[request.param])


@pytest.fixture(scope="module")
def square():
    return Case(*SHAPES["square"])


def near(found, expected, tolerance):
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


# The textbook formulation.


def test_loss_and_all_gradients_equal_the_unshuffled_formulation(case):
    found, gradients = jax.jit(jax.value_and_grad(case.loss))(case.params)
    textbook_loss = lambda params: case.textbook(params)[0]  # noqa: E731
    expected, textbook_gradients = jax.jit(jax.value_and_grad(textbook_loss))(case.params)
    near(found, expected, 1e-6)
    assert jax.tree.structure(gradients) == jax.tree.structure(case.params)
    jax.tree.map(lambda a, b: near(a, b, 1e-6), gradients, textbook_gradients)
    # Everything is trained; only key biases have no influence (softmax does not see them).
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        key_bias = "key" in str(path) and "bias" in str(path)
        assert key_bias or np.abs(leaf).max() > 1e-4, path


def test_predictions_and_latents_equal_it(case):
    seen = case.activations(case.params, case.batch, case.noise)
    _, prediction, mask, latent = jax.jit(case.textbook)(case.params)
    near(seen["latent"], latent, 2e-5)
    near(seen["prediction"], prediction, 2e-5)
    np.testing.assert_array_equal(seen["hidden"], mask.astype(bool))


def test_bytes_are_standardised_on_the_way_in(case):
    found = jax.jit(case.loss)(case.params, case.bytes)
    near(found, jax.jit(case.loss)(case.params), 1e-4)


# The sheet's invariants.


def test_1_counts_and_permutations(case):
    seen = case.activations(case.params, case.batch, case.noise)
    hidden = case.num_tokens - case.num_visible
    np.testing.assert_array_equal(seen["hidden"].sum(1), [hidden] * 3)
    assert seen["visible_ids"].shape == (3, case.num_visible)
    for row in range(3):
        inverse = np.asarray(seen["inverse"][row])
        shuffled = np.argsort(case.noise[row], kind="stable")
        np.testing.assert_array_equal(shuffled[inverse], np.arange(case.num_tokens))
        np.testing.assert_array_equal(seen["visible_ids"][row], shuffled[: case.num_visible])


def test_2_latents_do_not_see_hidden_pixels(case):
    seen = case.activations(case.params, case.batch, case.noise)
    hidden = np.asarray(seen["hidden"])
    pixel_hidden = textbook_mask(hidden, case)
    changed = jnp.where(pixel_hidden, -7.5, case.batch["image"])
    other = case.activations(case.params, {**case.batch, "image": changed}, case.noise)
    for name in ("latent", "prediction"):
        np.testing.assert_array_equal(seen[name], other[name])

    def latent(image):
        batch = {**case.batch, "image": image}
        return jnp.sin(case.activations(case.params, batch, case.noise)["latent"]).sum()

    gradient = np.asarray(jax.jit(jax.grad(latent))(case.batch["image"]))
    assert not gradient[pixel_hidden].any()
    assert (gradient[~pixel_hidden] != 0).mean() > 0.99


def textbook_mask(hidden, case):
    """bool[B, H, W, C]: which pixels are hidden."""
    size = case.patch[0] * case.patch[1] * case.model["channels"]
    repeated = np.repeat(hidden[..., None], size, -1)
    return np.asarray(unpatchify(repeated, case.grid, case.patch))


def test_3_only_hidden_patches_count(case):
    seen = case.reconstruct(case.params, case.batch, case.noise)
    error = np.square(seen["prediction"] - seen["target"]).mean(-1)
    hidden = np.asarray(seen["hidden"])
    near(jax.jit(case.loss)(case.params), error[hidden].mean(), 1e-5)
    assert abs(error.mean() - error[hidden].mean()) > 1e-4
    # Through the targets too: with the input path cut, visible pixels have no influence.
    latent_free = {**case.params, "decoder": {**case.params["decoder"]}}
    latent_free["decoder"]["embed"] = jax.tree.map(jnp.zeros_like, case.params["decoder"]["embed"])
    loss = lambda image: case.loss(latent_free, {**case.batch, "image": image})  # noqa: E731
    gradient = np.asarray(jax.jit(jax.grad(loss))(case.batch["image"]))
    assert not gradient[~textbook_mask(hidden, case)].any()
    assert gradient[textbook_mask(hidden, case)].any()


def test_4_the_order_of_the_visible_tokens_does_not_matter(case):
    seen = case.activations(case.params, case.batch, case.noise)
    order = np.random.default_rng(3).permutation(case.num_visible)
    noise = np.asarray(case.noise).copy()
    for row in range(3):
        ids = np.asarray(seen["visible_ids"][row])
        noise[row, ids[order]] = np.sort(noise[row, ids])
    other = case.activations(case.params, case.batch, jnp.asarray(noise))
    np.testing.assert_array_equal(other["visible_ids"], np.asarray(seen["visible_ids"])[:, order])
    near(other["latent"][:, 1:], np.asarray(seen["latent"])[:, 1:][:, order], 1e-5)
    near(other["latent"][:, 0], seen["latent"][:, 0], 1e-5)
    near(other["prediction"], seen["prediction"], 1e-5)


def test_5_targets_do_not_see_contrast_and_brightness(case):
    brighter = {**case.batch, "image": 2 * case.batch["image"] + 1}
    targets = [
        case.reconstruct(case.params, batch, case.noise)["target"]
        for batch in (case.batch, brighter)
    ]
    assert np.allclose(*targets, atol=1e-3) == case.norm_pix
    constant = {**case.batch, "image": jnp.full_like(case.batch["image"], 0.7)}
    value, gradients = jax.jit(jax.value_and_grad(case.loss))(case.params, constant)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_6_patches_go_back_to_the_image_and_pictures_are_in_range(case):
    seen = case.reconstruct(case.params, case.bytes, case.noise)
    near(seen["original"], case.bytes["image"] / 255, 1e-5)
    assert seen["pixels"].shape == case.bytes["image"].shape
    assert seen["pixels"].min() >= 0
    assert seen["pixels"].max() <= 1
    # A perfect prediction gives the image back.
    patches = patchify(case.batch["image"], case.patch)
    near(textbook.patchify(case.batch["image"], case.patch), patches, 0)
    target = textbook.target_of(case.batch["image"], case.patch, case.norm_pix)
    near(seen["target"], target, 1e-3)
    prediction = np.asarray(seen["prediction"])
    if case.norm_pix:
        mean, variance = patches.mean(-1, keepdims=True), patches.var(-1, keepdims=True, ddof=1)
        prediction = prediction * np.sqrt(variance + 1e-6) + mean
    image = np.asarray(unpatchify(prediction, case.grid, case.patch))
    channels = case.model["channels"]
    expected = (image * np.asarray(STD[:channels]) + MEAN[:channels]).clip(0, 1)
    near(seen["pixels"], expected, 1e-4)


def test_6_ratio_zero_is_the_plain_vit(case):
    method = build_method("mim.mae", {**case.model, "mask_ratio": 0.0}, case.batch)
    raster = jnp.tile(jnp.arange(case.num_tokens, dtype=jnp.float32), (3, 1))
    plain = jax.jit(lambda p, x: textbook.encode(p["encoder"], x, case.patch))
    expected = plain(case.params, case.batch["image"])
    encode = jax.jit(lambda p, b: method.predict["encode"](p, {}, b, None))
    found = encode(case.params, case.batch)
    near(found["cls"], expected[:, 0], 2e-5)
    near(found["tokens"], expected[:, 1:], 2e-5)
    near(found["mean"], expected[:, 1:].mean(1), 2e-5)
    activations = method.predict["activations"]
    seen = jax.jit(lambda p, b: activations(p, {}, b, Draws.replay({"mask": raster})))(
        case.params, case.batch
    )
    near(seen["latent"], expected, 2e-5)
    assert not seen["hidden"].any()


def test_7_a_quarter_of_the_tokens_costs_a_quarter(square):
    """FLOPs of the encoder at ratio 0.75 against all patches: 5 of 17 tokens with cls."""

    def flops(name, num):
        fn = lambda p, b, n: square.method.predict[name](p, {}, b, square.draws(n))  # noqa: E731
        wanted = {"activations": "latent", "encode": "tokens"}[name]
        args = (square.params, square.batch, square.noise)
        lowered = jax.jit(lambda *a: fn(*a)[wanted]).lower(*args)
        return lowered.compile().cost_analysis()["flops"] / num

    ratio = flops("activations", 3) / flops("encode", 3)
    assert 0.7 * 5 / 17 < ratio < 1.1 * 5 / 17


def test_step_flops_agree_with_the_compiler():
    size = {"depth": 2, "heads": 4, "mlp_ratio": 4.0}
    model = {"image_size": (32, 32), "patch_size": 4, "scan": False}
    model |= {"encoder": {"dim": 128, **size}, "decoder": {"dim": 64, **size}}
    batch = tiny.batch(4, size=(32, 32))
    method = build_method("mim.mae", model, batch)
    params, _ = jax.eval_shape(method.init, jax.random.key(0), batch)

    def loss(params):
        draws = Draws.keyed(jax.random.key(0), batch["position"])
        return losses.total(method.phases[0].fn(params, {}, batch, draws, 0, None)[0])

    counted = jax.jit(jax.grad(loss)).lower(params).compile().cost_analysis()["flops"]
    # The compiler counts elementwise work as well, which weighs more at this width.
    assert 0.97 * method.step_flops < counted / 4 < 1.25 * method.step_flops


def test_the_compiled_loss_has_one_sort_and_no_scatter(square):
    from hlo import count

    gradient = jax.jit(jax.value_and_grad(square.loss))
    text = gradient.lower(square.params, square.bytes).compile().as_text()
    assert count(text, "scatter") == 0
    assert count(text, "sort") == 1


# Training.


def test_the_loss_falls(square):
    batch = tiny.batch(32)
    optimizers = {"main": optax.adam(3e-3)}
    step = make_train_step(square.method, optimizers)
    state = create_state(square.method, optimizers, jax.random.key(0), batch)
    seen = []
    for index in range(60):
        batch["position"] = tiny.positions(32, index * 32)
        state, metrics = step(state, batch)
        seen.append(float(metrics["loss"]))
    assert np.mean(seen[-5:]) < 0.8 * np.mean(seen[:5])


def test_masks_change_from_step_to_step_and_from_image_to_image(square):
    def hidden(start):
        draws = Draws.keyed(jax.random.key(0), tiny.positions(3, start))
        return square.method.predict["reconstruct"](square.params, {}, square.batch, draws)[
            "hidden"
        ]

    first, second = np.asarray(hidden(0)), np.asarray(hidden(3))
    assert (first[0] != first[1]).any()
    assert (first != second).any(1).all()
    np.testing.assert_array_equal(hidden(2)[1], second[0])


def test_bfloat16_stays_close(square):
    model = {**square.model, "dtype": "bfloat16"}
    method = build_method("mim.mae", model, square.batch)
    terms, _ = method.phases[0].fn(square.params, {}, square.batch, square.draws(), 0, None)
    assert {x.dtype for x in jax.tree.leaves(method.init(jax.random.key(0), square.batch))} == {
        jnp.dtype("float32")
    }
    assert terms["reconstruction"].sum.dtype == jnp.float32
    near(losses.total(terms), jax.jit(square.loss)(square.params), 0.03)


# What build refuses, from shapes alone: nothing is computed or compiled.

ERRORS = {
    r"config\.model\.mask_ratio = 1\.0: .*\[0, 1\)": {"mask_ratio": 1.0},
    r"config\.model\.mask_ratio = -0\.1": {"mask_ratio": -0.1},
    r"config\.model\.mask_ratio = 0\.97: .*none of 16 tokens": {"mask_ratio": 0.97},
    r"config\.model\.mask_ratio = '0\.5'": {"mask_ratio": "0.5"},
    r"config\.model\.mask_ratio = None": {"mask_ratio": None},
    r"config\.model\.patch_size = \(3, 3\): does not divide model\.image_size": {"patch_size": 3},
    r"config\.model\.patch_size = \(2, 3\)": {"patch_size": (2, 3)},
    r"config\.model\.patch_size = 2\.5: must be a positive int": {"patch_size": 2.5},
    r"config\.model\.patch_size = 0": {"patch_size": 0},
    r"config\.model\.patch_size = None": {"patch_size": None},
    r"config\.model\.image_size = \(8, 8, 8\)": {"image_size": (8, 8, 8)},
    r"model\.image_size.*\(16, 8, 3\): the data has .*\(8, 8, 3\)": {"image_size": (16, 8)},
    r"config\.model\.encoder\.heads = 3: must divide model\.encoder\.dim = 16": {
        "encoder": {"heads": 3, "dim": 16}
    },
    r"config\.model\.decoder\.heads = 5": {"decoder": {"heads": 5, "dim": 8}},
    r"config\.model\.decoder\.dim = 6: must be a multiple of 4": {"decoder": {"dim": 6}},
    r"config\.model\.encoder\.depth = 0": {"encoder": {"depth": 0}},
    r"config\.model\.encoder\.dim = '16'": {"encoder": {"dim": "16"}},
    r"config\.model\.encoder\.depth = 1\.5": {"encoder": {"depth": 1.5, "dim": 16, "heads": 2}},
    r"config\.model\.encoder = 5": {"encoder": 5},
    r"config\.model\.mean = .*needs 4 channels": {"channels": 4},
    r"config\.model\.channels = 0": {"channels": 0, "mean": (), "std": ()},
    r"config\.model\.mean = .*needs 3 channels": {"mean": (0.5,)},
    r"config\.model\.mean = 0\.5": {"mean": 0.5},
    r"config\.model\.std = .*needs 3 channels": {"std": (0.5, 0.5)},
    r"config\.model\.std = .*must be positive": {"std": (0.5, 0.0, 0.5)},
    r"model\.channels.*\(8, 8, 1\): the data has .*\(8, 8, 3\)": {
        "channels": 1,
        "mean": (0.5,),
        "std": (0.5,),
    },
    r"config\.model\.dtype = 'float16': float32 or bfloat16": {"dtype": "float16"},
    r"config\.model\.remat = 'some'": {"remat": "some"},
    r"config\.model\.attention = 'flash'": {"attention": "flash"},
    r"config\.model\.scan = 'yes'": {"scan": "yes"},
    r"config\.model\.patch does not exist; did you mean 'patch_size'\?": {"patch": 2},
    r"config\.model\.encoder\.dept does not exist; did you mean 'depth'\?": {
        "encoder": {"dept": 2}
    },
    r"config\.model\.xyzzy does not exist; keys: .*mask_ratio": {"xyzzy": 1},
}


@pytest.mark.parametrize("message", ERRORS)
def test_build_errors_name_the_config_path(message):
    abstract = jax.eval_shape(lambda: tiny.batch(2) | {"label": jnp.zeros(2, jnp.int32)})
    with pytest.raises(UserError, match=message):
        build_method("mim.mae", {**tiny.MODEL, **ERRORS[message]}, abstract)


def test_a_ratio_of_zero_encodes_but_does_not_train(square):
    method = build_method("mim.mae", {**square.model, "mask_ratio": 0.0}, square.batch)
    optimizers = {"main": optax.sgd(0.1)}
    state = jax.eval_shape(
        lambda: create_state(method, optimizers, jax.random.key(0), square.batch)
    )
    with pytest.raises(UserError, match=r"config\.model\.mask_ratio = 0.*nothing to predict"):
        make_train_step(method, optimizers).lower(state, square.batch)


def test_one_value_per_patch_cannot_be_normalised():
    model = {**tiny.MODEL, "patch_size": 1, "channels": 1, "mean": (0.5,), "std": (0.5,)}
    batch = tiny.batch(2, channels=1)
    with pytest.raises(UserError, match=r"config\.model\.norm_pix"):
        build_method("mim.mae", model, batch)
    build_method("mim.mae", {**model, "norm_pix": False}, batch)


def test_the_defaults_are_vit_b_of_the_paper():
    abstract = {"image": jax.ShapeDtypeStruct((1, 224, 224, 3), np.uint8)}
    method = build_method("mim.mae", {}, abstract)
    params, _ = jax.eval_shape(method.init, jax.random.key(0), abstract)
    count = sum(leaf.size for leaf in jax.tree.leaves(params["encoder"]))
    # timm's vit_base_patch16_224 without head has 85,798,656; its position table is 197 * 768.
    assert count == 85_798_656 - 197 * 768
    assert DEFAULTS["mask_ratio"] == 0.75


def test_layers_for_the_learning_rate_decay(square):
    depth = tiny.MODEL["encoder"]["depth"]
    assert square.method.layers("encoder/cls_token") == 0
    assert square.method.layers("encoder/patch_embed/kernel") == 0
    assert square.method.layers("encoder/pos_embed") == 0
    assert square.method.layers("encoder/blocks/attn/out/bias") == tuple(range(1, depth + 1))
    assert square.method.layers("encoder/norm/scale") == depth + 1
    assert square.method.layers("decoder/pred/kernel") == depth + 1
