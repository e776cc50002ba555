"""MAE: the textbook formulation, the invariants of its sheet, training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import textbook
import tiny

from maskjax import losses
from maskjax.masking import Draws, patchify, unpatchify
from maskjax.method import build_method
from maskjax.train.state import TrainState
from maskjax.train.step import make_train_step

MEAN, STD = (0.485, 0.456, 0.406, 0.5), (0.229, 0.224, 0.225, 0.25)
# name -> image size, patch, channels, ratio, norm_pix
SHAPES = {
    "square": ((8, 8), (2, 2), 3, 0.75, True),
    "flat, one channel, raw pixels": ((6, 20), (3, 4), 1, 0.6, False),
    "tall, four channels": ((12, 8), (2, 4), 4, 0.5, True),
}


class Case:
    """A built method with parameters where nothing is at 0 or 1, a batch and its noise."""

    def __init__(self, size, patch, channels, ratio, norm_pix, num=3):
        self.patch = patch
        self.grid = (size[0] // patch[0], size[1] // patch[1])
        self.num_tokens = self.grid[0] * self.grid[1]
        self.num_visible = int(self.num_tokens * (1 - ratio))
        self.norm_pix = norm_pix
        self.model = {
            **tiny.MODEL,
            "image_size": size,
            "patch_size": patch,
            "channels": channels,
            "mean": MEAN[:channels],
            "std": STD[:channels],
            "mask_ratio": ratio,
            "norm_pix": norm_pix,
        }
        self.bytes = tiny.images(num, size, channels)
        image = (self.bytes / 255 - MEAN[:channels]) / np.asarray(STD[:channels])
        self.image = jnp.asarray(image, jnp.float32)
        noise = np.random.default_rng(1).uniform(size=(num, self.num_tokens))
        self.noise = jnp.asarray(noise, jnp.float32)
        self.method = build_method("mim.mae", self.model, {"image": self.bytes})
        self.params = tiny.params(self.method, {"image": self.bytes})

    def loss(self, params, image, noise):
        draws = Draws.replay({"mask": noise})
        terms, _ = self.method.phases[0].fn(params, {}, {"image": image}, draws, 0, None)
        return losses.total(terms)

    def predict(self, name, params, image, noise):
        draws = Draws.replay({"mask": noise})
        return self.method.predict[name](params, {}, {"image": image}, draws)

    @functools.cached_property
    def value_and_grads(self):
        """(params, image, noise) -> loss, gradients by params and by image."""
        return jax.jit(jax.value_and_grad(self.loss, (0, 1)))

    @functools.cached_property
    def activations(self):
        return jax.jit(functools.partial(self.predict, "activations"))

    @functools.cached_property
    def reconstruct(self):
        return jax.jit(functools.partial(self.predict, "reconstruct"))

    @functools.cached_property
    def seen(self):
        return self.activations(self.params, self.image, self.noise)

    @functools.cached_property
    def pixels_hidden(self):
        """bool[B, H, W, C]."""
        size = self.patch[0] * self.patch[1] * self.model["channels"]
        repeated = np.repeat(np.asarray(self.seen["hidden"])[..., None], size, -1)
        return np.asarray(unpatchify(repeated, self.grid, self.patch))

    @functools.cached_property
    def textbook(self):
        """The reference's ((loss, everything else), gradients by params)."""

        def loss(params):
            settings = (self.patch, self.num_visible, self.norm_pix)
            value, *rest = textbook.mae(params, self.image, self.noise, *settings)
            return value, rest

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(self.params)


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
    found, (gradients, _) = case.value_and_grads(case.params, case.image, case.noise)
    (expected, _), textbook_gradients = case.textbook
    near(found, expected, 1e-6)
    assert jax.tree.structure(gradients) == jax.tree.structure(case.params)
    jax.tree.map(lambda a, b: near(a, b, 1e-6), gradients, textbook_gradients)
    # Everything is trained; only key biases have no influence (softmax does not see them).
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        key_bias = "key" in str(path) and "bias" in str(path)
        assert key_bias or np.abs(leaf).max() > 1e-4, path


def test_predictions_and_latents_equal_it(case):
    (_, (prediction, mask, latent)), _ = case.textbook
    near(case.seen["latent"], latent, 1e-5)
    near(case.seen["prediction"], prediction, 1e-5)
    np.testing.assert_array_equal(case.seen["hidden"], mask.astype(bool))


def test_bytes_are_standardised_on_the_way_in(square):
    found = jax.jit(square.loss)(square.params, square.bytes, square.noise)
    near(found, square.textbook[0][0], 1e-4)


# The sheet's invariants.


def test_1_counts_and_permutations(case):
    seen, hidden = case.seen, case.num_tokens - case.num_visible
    np.testing.assert_array_equal(seen["hidden"].sum(1), [hidden] * 3)
    assert seen["visible_ids"].shape == (3, case.num_visible)
    for row in range(3):
        inverse = np.asarray(seen["inverse"][row])
        shuffled = np.argsort(case.noise[row], kind="stable")
        np.testing.assert_array_equal(shuffled[inverse], np.arange(case.num_tokens))
        np.testing.assert_array_equal(seen["visible_ids"][row], shuffled[: case.num_visible])


def test_2_latents_do_not_see_hidden_pixels(case):
    changed = jnp.where(case.pixels_hidden, -7.5, case.image)
    other = case.activations(case.params, changed, case.noise)
    for name in ("latent", "prediction"):
        np.testing.assert_array_equal(case.seen[name], other[name])

    def latent(image):
        return jnp.sin(case.predict("activations", case.params, image, case.noise)["latent"]).sum()

    gradient = np.asarray(jax.jit(jax.grad(latent))(case.image))
    assert not gradient[case.pixels_hidden].any()
    assert (gradient[~case.pixels_hidden] != 0).mean() > 0.99


def test_3_only_hidden_patches_count(case):
    seen = case.reconstruct(case.params, case.image, case.noise)
    error = np.square(seen["prediction"] - seen["target"]).mean(-1)
    hidden = np.asarray(seen["hidden"])
    near(case.textbook[0][0], error[hidden].mean(), 1e-5)
    assert abs(error.mean() - error[hidden].mean()) > 1e-4
    # With the way from the latent cut, pixels act through the target only: the hidden ones.
    embed = jax.tree.map(jnp.zeros_like, case.params["decoder"]["embed"])
    cut = {**case.params, "decoder": {**case.params["decoder"], "embed": embed}}
    _, (_, by_image) = case.value_and_grads(cut, case.image, case.noise)
    assert not np.asarray(by_image)[~case.pixels_hidden].any()
    assert np.asarray(by_image)[case.pixels_hidden].any()


def test_4_the_order_of_the_visible_tokens_does_not_matter(case):
    ids = np.asarray(case.seen["visible_ids"])
    order = np.random.default_rng(3).permutation(case.num_visible)
    noise = np.asarray(case.noise).copy()
    for row in range(3):
        noise[row, ids[row][order]] = np.sort(noise[row, ids[row]])
    other = case.activations(case.params, case.image, jnp.asarray(noise))
    np.testing.assert_array_equal(other["visible_ids"], ids[:, order])
    near(other["latent"][:, 1:], np.asarray(case.seen["latent"])[:, 1:][:, order], 1e-5)
    near(other["latent"][:, 0], case.seen["latent"][:, 0], 1e-5)
    near(other["prediction"], case.seen["prediction"], 1e-5)


def test_5_targets_do_not_see_contrast_and_brightness(case):
    targets = [
        case.reconstruct(case.params, image, case.noise)["target"]
        for image in (case.image, 2 * case.image + 1)
    ]
    assert np.allclose(*targets, atol=1e-3) == case.norm_pix
    constant = jnp.full_like(case.image, 0.7)
    value, (gradients, _) = case.value_and_grads(case.params, constant, case.noise)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_6_patches_go_back_to_the_image_and_pictures_are_in_range(case):
    seen = case.reconstruct(case.params, case.image, case.noise)
    near(seen["original"], case.bytes / 255, 1e-5)
    assert seen["pixels"].shape == case.bytes.shape
    assert seen["pixels"].min() >= 0
    assert seen["pixels"].max() <= 1
    patches = patchify(case.image, case.patch)
    np.testing.assert_array_equal(textbook.patchify(case.image, case.patch), patches)
    near(seen["target"], textbook.target_of(case.image, case.patch, case.norm_pix), 1e-4)
    prediction = np.asarray(seen["prediction"])
    if case.norm_pix:
        mean, variance = patches.mean(-1, keepdims=True), patches.var(-1, keepdims=True, ddof=1)
        prediction = prediction * np.sqrt(variance + 1e-6) + mean
    image = np.asarray(unpatchify(prediction, case.grid, case.patch))
    channels = case.model["channels"]
    expected = (image * np.asarray(STD[:channels]) + MEAN[:channels]).clip(0, 1)
    near(seen["pixels"], expected, 1e-5)


def test_6_ratio_zero_is_the_plain_vit(case):
    method = build_method("mim.mae", {**case.model, "mask_ratio": 0.0}, {"image": case.bytes})
    raster = jnp.tile(jnp.arange(case.num_tokens, dtype=jnp.float32), (3, 1))

    def run(params, image):
        batch, draws = {"image": image}, Draws.replay({"mask": raster})
        seen = method.predict["activations"](params, {}, batch, draws)
        plain = textbook.encode(params["encoder"], image, case.patch)
        return (
            plain,
            seen["latent"],
            seen["hidden"],
            method.predict["encode"](params, {}, batch, draws),
        )

    plain, latent, hidden, features = jax.jit(run)(case.params, case.image)
    near(latent, plain, 1e-5)
    assert not hidden.any()
    near(features["cls"], plain[:, 0], 1e-5)
    near(features["tokens"], plain[:, 1:], 1e-5)
    near(features["mean"], plain[:, 1:].mean(1), 1e-5)


def test_7_a_quarter_of_the_tokens_costs_a_quarter(square):
    """FLOPs of the encoder at ratio 0.75 against all patches: 5 of 17 tokens with cls."""

    def flops(name, wanted):
        fn = lambda *args: square.predict(name, *args)[wanted]  # noqa: E731
        lowered = jax.jit(fn).lower(square.params, square.image, square.noise)
        return lowered.compile().cost_analysis()["flops"]

    ratio = flops("activations", "latent") / flops("encode", "tokens")
    assert 0.7 * 5 / 17 < ratio < 1.1 * 5 / 17


def test_step_flops_agree_with_the_compiler():
    size = {"depth": 2, "heads": 4, "mlp_ratio": 4.0}
    # Lean attention makes the scores twice, which at this width is 4 % of the whole.
    model = {"image_size": (32, 32), "patch_size": 4, "scan": "off", "lean": False}
    model |= {"encoder": {"dim": 128, **size}, "decoder": {"dim": 64, **size}}
    batch = tiny.batch(4, size=(32, 32))
    method = build_method("mim.mae", model, batch)
    params, _ = jax.eval_shape(method.init, jax.random.key(0), batch)

    def loss(params):
        draws = Draws.keyed(jax.random.key(0), batch["position"])
        return losses.total(method.phases[0].fn(params, {}, batch, draws, 0, None)[0])

    counted = jax.jit(jax.grad(loss)).lower(params).cost_analysis()["flops"]
    # The compiler counts elementwise work as well: 6 % at this width.
    assert 0.97 * method.step_flops < counted / 4 < 1.08 * method.step_flops


def test_the_compiled_loss_has_one_sort_and_no_scatter(square):
    from hlo import count

    gradient = jax.jit(jax.grad(square.loss))
    text = gradient.lower(square.params, square.bytes, square.noise).compile().as_text()
    assert count(text, "scatter") == 0
    assert count(text, "sort") == 1


# Training.


def test_the_loss_falls(square):
    batch = tiny.batch(32)
    optimizer = optax.adam(3e-3)
    step = make_train_step(square.method, {"main": optimizer})
    params = jax.tree.map(jnp.copy, square.params)
    state = TrainState(jnp.int32(0), params, {"main": optimizer.init(params)}, {})
    seen = []
    for index in range(60):
        batch["position"] = tiny.positions(32, index * 32)
        state, metrics = step(state, batch)
        seen.append(float(metrics["loss"]))
    assert np.mean(seen[-5:]) < 0.8 * np.mean(seen[:5])


def test_masks_change_from_step_to_step_and_from_image_to_image(square):
    @jax.jit
    def hidden(positions):
        draws = Draws.keyed(jax.random.key(0), positions)
        batch = {"image": square.image}
        return square.method.predict["reconstruct"](square.params, {}, batch, draws)["hidden"]

    first, second = (np.asarray(hidden(tiny.positions(3, start))) for start in (0, 3))
    assert (first[0] != first[1]).any()
    assert (first != second).any(1).all()
    np.testing.assert_array_equal(hidden(tiny.positions(3, 2))[1], second[0])


def test_bfloat16_stays_close(square):
    method = build_method("mim.mae", {**square.model, "dtype": "bfloat16"}, {"image": square.bytes})
    draws = Draws.replay({"mask": square.noise})
    run = lambda params: method.phases[0].fn(params, {}, {"image": square.image}, draws, 0, None)  # noqa: E731
    terms, _ = jax.jit(run)(square.params)
    assert terms["reconstruction"].sum.dtype == jnp.float32
    near(losses.total(terms), square.textbook[0][0], 0.03)
    params, _ = jax.eval_shape(method.init, jax.random.key(0), {"image": square.bytes})
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}
