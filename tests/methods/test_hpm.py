"""HPM: the invariants of its mask, its losses and its teacher."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax import losses
from maskjax.errors import UserError
from maskjax.losses import pairwise_order, standardized_error
from maskjax.masking import Draws
from maskjax.method import Schedule, build_method

BATCH = tiny.batch(6)
EPOCHS = Schedule(20, 2.0)  # 20 steps, 10 epochs


def build(schedule=EPOCHS, **model):
    return build_method("mim.hpm", {**tiny.MODEL, **model}, BATCH, schedule)


@pytest.fixture(scope="module")
def hpm():
    return build()


@pytest.fixture(scope="module")
def params(hpm):
    return tiny.params(hpm, BATCH)


@pytest.fixture(scope="module")
def teacher(hpm):
    return tiny.params(hpm, BATCH, seed=1)


@pytest.fixture(scope="module")
def terms(hpm):
    """(params, teacher, image, step) -> terms, aux, one compilation for all steps."""

    def run(params, teacher, image, step):
        draws = Draws.keyed(jax.random.key(0), BATCH["position"])
        batch = {"image": image}
        return hpm.phases[0].fn(params, {"teacher": teacher}, batch, draws, step, None)

    return jax.jit(run)


def seen_of(method, params, teacher):
    def run(params, teacher):
        draws = Draws.keyed(jax.random.key(0), BATCH["position"])
        return method.predict["activations"](params, {"teacher": teacher}, BATCH, draws)

    return {name: np.asarray(x) for name, x in jax.jit(run)(params, teacher).items()}


def mean(term):
    return float(losses.total({"one": term}))


@pytest.mark.parametrize(("share", "num_hard"), [(0.0, 0), (0.25, 3), (0.5, 6), (1.0, 12)])
def test_1_counts_are_exact_and_the_hardest_are_always_hidden(share, num_hard, params, teacher):
    seen = seen_of(build(hard_share=(0.0, share)), params, teacher)
    assert (seen["hidden"].sum(1) == 12).all()
    hardest = np.argsort(seen["difficulty"], 1)[:, 16 - num_hard :]
    assert np.take_along_axis(seen["hidden"], hardest, 1).all()


def test_2_the_number_of_hard_patches_steps_once_an_epoch_without_recompilation(
    terms, params, teacher
):
    counts = []
    for step in (0, 1, 2, 9, 10, 18, 19, 25):
        _, aux = terms(params, teacher, BATCH["image"], jnp.int32(step))
        counts.append(float(aux["hard_patches"].sum / aux["hard_patches"].count))
    # 12 hidden patches, epoch e of 10: int(12 * 0.5 * (e + 1) / 10).
    assert counts == [0, 0, 1, 3, 3, 6, 6, 6]
    assert terms._cache_size() == 1


def test_2_without_hard_patches_the_teacher_has_no_say(params, teacher):
    easy = build(hard_share=(0.0, 0.0))
    seen, other = (seen_of(easy, params, weights) for weights in (teacher, params))
    np.testing.assert_array_equal(seen["hidden"], other["hidden"])
    harder = seen_of(build(hard_share=(0.0, 1.0)), params, teacher)
    hidden = lambda s: (seen["difficulty"] * s["hidden"]).sum() / s["hidden"].sum()  # noqa: E731
    assert hidden(harder) > hidden(seen)


values = st.lists(st.floats(-3, 3, width=32), min_size=6, max_size=6)


@given(values, values, st.floats(-5, 5, width=32))
@settings(max_examples=60, deadline=None)
def test_3_the_order_loss_sees_order_only(prediction, target, shift):
    prediction, target = np.float32(prediction), np.float32(target)
    total, pairs = pairwise_order(prediction, target)
    assert pairs == (target[:, None] != target).sum()
    again, same = pairwise_order(prediction + np.float32(shift), target)
    np.testing.assert_allclose(again, total, rtol=1e-4, atol=1e-4)
    ranks = np.unique(target, return_inverse=True)[1].astype(np.float32)
    np.testing.assert_allclose(pairwise_order(prediction, np.exp(ranks))[0], total, rtol=1e-6)
    assert same == pairs


def test_3_constants_cost_ln_2_and_the_right_order_nothing():
    target = np.array([3.0, 1.0, 2.0, 2.0], np.float32)
    total, pairs = pairwise_order(np.zeros(4, np.float32), target)
    assert pairs == 10  # 12 ordered pairs, one tie
    assert total / pairs == pytest.approx(np.log(2), abs=1e-5)
    total, pairs = pairwise_order(20 * target, target)
    assert total / pairs == pytest.approx(0, abs=1e-5)
    total, _ = pairwise_order(-20 * target, target)
    assert total > 100


def test_4_neither_loss_reaches_what_it_is_to_predict():
    predicted, errors = (jnp.asarray(np.random.default_rng(i).uniform(size=6)) for i in (0, 1))
    for loss in (standardized_error, lambda *args: pairwise_order(*args)[0]):
        of_predicted, of_errors = jax.grad(lambda *a: loss(*a).sum(), (0, 1))(predicted, errors)  # noqa: B023
        assert (of_errors == 0).all()
        assert (of_predicted != 0).all()


def test_4_the_predictor_teaches_the_encoder_but_not_the_pixels(hpm, params, teacher):
    def relative(params):
        draws = Draws.keyed(jax.random.key(0), BATCH["position"])
        found, _ = hpm.phases[0].fn(params, {"teacher": teacher}, BATCH, draws, jnp.int32(9), None)
        return losses.total({"relative": found["relative"]})

    gradient = jax.jit(jax.grad(relative))(params)
    size = lambda tree: sum(float(jnp.abs(leaf).sum()) for leaf in jax.tree.leaves(tree))  # noqa: E731
    for part in ("pred", "norm", "blocks"):
        assert size(gradient["decoder"][part]) == 0
        assert size(gradient["losspred"][part]) > 0
    assert size(gradient["decoder"]["embed"]) > 0
    assert size(gradient["encoder"]["blocks"]) > 0


def test_4_hidden_pixels_reach_neither_features_nor_predictions(terms, params, teacher):
    """With the mask held fixed (the teacher does see them), by gradient."""
    frozen = build(hard_share=(0.0, 0.0))

    def total(image):
        draws = Draws.keyed(jax.random.key(0), BATCH["position"])
        seen = frozen.predict["activations"](params, {"teacher": teacher}, {"image": image}, draws)
        return jnp.square(seen["prediction"]).sum() + seen["losses"].sum(), seen["hidden"]

    image = jnp.asarray(BATCH["image"], jnp.float32) / 255
    gradient, hidden = jax.jit(jax.grad(total, has_aux=True))(image)
    cells = np.asarray(hidden).reshape(6, 4, 4).repeat(2, 1).repeat(2, 2)
    assert (np.asarray(gradient)[cells] == 0).all()
    assert (np.asarray(gradient)[~cells] != 0).any(-1).all()


def test_5_the_teacher_changes_only_by_averaging(params, teacher):
    for decay, expected in ((1.0, teacher), (0.0, params)):
        method = build(teacher_decay=(decay, decay))
        extra = method.after_update(params, {"teacher": teacher}, {}, jnp.int32(3))
        for found, wanted in zip(
            jax.tree.leaves(extra["teacher"]), jax.tree.leaves(expected), strict=True
        ):
            np.testing.assert_array_equal(found, wanted)


def test_6_reconstruction_is_maes(params, teacher):
    """Same weights, same mask: the same loss."""
    method = build(hard_share=(0.0, 0.0), norm_pix=True)
    mae = build_method("mim.mae", {**tiny.MODEL, "norm_pix": True}, BATCH)
    draws = Draws.keyed(jax.random.key(0), BATCH["position"])

    def run(fn, params, extra):
        found, _ = fn(params, extra, BATCH, draws, jnp.int32(0), None)
        return losses.total({"one": found["reconstruction"]})

    own = run(method.phases[0].fn, params, {"teacher": teacher})
    parts = {name: params[name] for name in ("encoder", "decoder")}
    np.testing.assert_allclose(own, run(mae.phases[0].fn, parts, {}), rtol=1e-5)


def test_the_picture_shows_what_is_predicted_to_be_hard(hpm, params, teacher):
    seen = hpm.predict["reconstruct"](
        params, {"teacher": teacher}, BATCH, Draws.keyed(jax.random.key(0), BATCH["position"])
    )
    assert seen["difficulty"].shape == (6, 16)
    errors = np.square(seen["prediction"] - seen["target"]).mean(-1)
    np.testing.assert_allclose(seen["errors"], errors, rtol=1e-5)
    assert seen["pixels"].shape == BATCH["image"].shape


ERRORS = {
    r"config\.model\.loss = 'mse': relative or absolute": {"loss": "mse"},
    r"config\.model\.hard_share = \(0\.0, 1\.5\)": {"hard_share": (0.0, 1.5)},
    r"config\.model\.teacher_decay = \(0\.9,\)": {"teacher_decay": (0.9,)},
    r"config\.model\.teacher_epochs = 0": {"teacher_epochs": 0},
}


@pytest.mark.parametrize("message", ERRORS)
def test_build_errors_name_the_config_path(message):
    with pytest.raises(UserError, match=message):
        build(**ERRORS[message])
