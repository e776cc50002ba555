"""VideoMAE V2: the invariants of its sheet, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from maskjax import losses
from maskjax.errors import UserError
from maskjax.masking import Draws
from maskjax.method import build_method
from maskjax.targets.tube_pixels import TubePixels

GRID = (4, 4, 4)  # time steps, rows, columns
MODEL = {**tiny.MODEL, "num_frames": 8, "mask_ratio": 0.75}
VIDEO = np.stack([tiny.images(2, seed=step) for step in range(8)], axis=1)
BATCH = {"video": VIDEO, "position": tiny.positions(2)}
FLOATS = {"video": jnp.asarray(VIDEO, jnp.float32) / 255}
TUBES = TubePixels(GRID, (2, 2, 2), True, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))


def build(**model):
    return build_method("views.videomae_v2", {**MODEL, **model}, BATCH)


def draws():
    return Draws.keyed(jax.random.key(0), BATCH["position"])


@pytest.fixture(scope="module")
def dual():
    return build()


@pytest.fixture(scope="module")
def params(dual):
    return tiny.params(dual, BATCH)


@pytest.fixture(scope="module")
def seen(dual, params):
    return jax.jit(lambda p: dual.predict["activations"](p, {}, FLOATS, draws()))(params)


def test_1_every_time_step_hides_the_same_places(seen):
    hidden = np.asarray(seen["hidden"]).reshape(2, 4, 16)
    assert (hidden == hidden[:, :1]).all()
    assert (hidden.sum(-1) == 12).all() and seen["visible"].shape[1] == 4 * 4
    assert np.any(hidden[0] != hidden[1])


def test_2_the_running_cell_predicts_two_of_four_and_every_place_twice_in_four_steps(seen):
    predicted = np.zeros((2, 64), bool)
    np.put_along_axis(predicted, np.asarray(seen["predicted_ids"]), True, axis=1)
    cells = predicted.reshape(2, 4, 2, 2, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(2, 4, 4, 4)
    assert (cells.sum(-1) == 2).all()
    assert (predicted.reshape(2, *GRID).sum(1) == 2).all()


def test_3_nothing_hidden_reaches_the_prediction_and_no_visible_target_the_loss(dual, params, seen):
    def prediction(video):
        found = dual.predict["activations"](params, {}, {"video": video}, draws())
        return (found["prediction"] * jnp.cos(jnp.arange(24))).sum()

    gradient = jax.jit(jax.grad(prediction))(FLOATS["video"])
    tubes = np.abs(TUBES.tubes(gradient)).sum(-1)
    hidden = np.asarray(seen["hidden"])
    assert (tubes[hidden] == 0).all() and (tubes[~hidden] > 0).all()

    terms, _ = jax.jit(lambda p: dual.phases[0].fn(p, {}, FLOATS, draws(), jnp.int32(0), None))(
        params
    )
    errors = np.square(seen["prediction"] - seen["target"]).mean(-1)
    weight = np.take_along_axis(hidden, np.asarray(seen["predicted_ids"]), axis=1)
    np.testing.assert_array_equal(weight, seen["weight"])
    assert 0 < weight.mean() < 1
    assert float(losses.total(terms)) == pytest.approx(errors[weight].mean(), rel=1e-5)


def test_4_and_5_without_a_decoder_mask_all_that_is_hidden_is_predicted(params, seen):
    whole = build(decoder_mask_ratio=0.0)
    found = jax.jit(lambda p: whole.predict["activations"](p, {}, FLOATS, draws()))(params)
    np.testing.assert_array_equal(found["hidden"], seen["hidden"])
    hidden = np.flatnonzero(found["hidden"][0])
    assert set(np.asarray(found["predicted_ids"][0])) == set(hidden)
    terms, _ = jax.jit(lambda p: whole.phases[0].fn(p, {}, FLOATS, draws(), jnp.int32(0), None))(
        params
    )
    errors = np.square(found["prediction"] - found["target"]).mean(-1)
    assert float(losses.total(terms)) == pytest.approx(errors.mean(), rel=1e-5)
    # Tokens of the decoder see each other: what is predicted together matters.
    both = set(hidden) & set(np.asarray(seen["predicted_ids"][0]))
    one = next(iter(both))
    at = lambda x: x["prediction"][0][list(np.asarray(x["predicted_ids"][0])).index(one)]  # noqa: E731
    assert np.abs(at(found) - at(seen)).max() > 1e-4


def test_6_targets_are_normalised_by_tube_and_channel():
    target = np.asarray(TUBES.target(TUBES.tubes(VIDEO))).reshape(2, 64, 8, 3)
    np.testing.assert_allclose(target.mean(2), 0, atol=1e-5)
    np.testing.assert_allclose(target.std(2, ddof=1), 1, atol=1e-3)


def test_7_a_channel_that_is_scaled_has_the_same_targets():
    pixels = VIDEO.astype(np.float32) / 255
    mean, std = np.float32([0.4, 0.5, 0.6]), np.float32([0.2, 0.3, 0.4])
    targets = [
        np.asarray(TUBES.target(TUBES.tubes((pixels * scale - mean) / std)))
        for scale in (1, np.float32([0.5, 1, 0.8]))
    ]
    np.testing.assert_allclose(*targets, atol=2e-3)


def test_strips_put_time_steps_beside_each_other():
    tubes = TUBES.tubes(VIDEO)
    picture = np.asarray(TUBES.picture(TUBES.target(tubes), tubes))
    first_frames = VIDEO[:, ::2].transpose(0, 2, 1, 3, 4).reshape(2, 8, 32, 3)
    np.testing.assert_allclose(picture, first_frames / 255, atol=1e-5)
    assert TUBES.strip_grid == (4, 16)
    steps = np.repeat(np.arange(4), 16)[None]
    np.testing.assert_array_equal(
        TUBES.to_strip(steps)[0].reshape(4, 16)[0], np.repeat(np.arange(4), 4)
    )


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"mask_ratio": 0.01}, "config.model.mask_ratio"),
        ({"decoder_mask_ratio": 0.3}, "config.model.decoder_mask_ratio"),
        ({"tubelet": 3}, "config.model.tubelet"),
        ({"num_frames": 4}, "config.model.num_frames"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(model, message):
    with pytest.raises(UserError, match=message):
        build(**model)


def test_a_grid_of_odd_sides_is_refused():
    video = {"video": np.zeros((1, 8, 6, 6, 3), np.uint8)}
    with pytest.raises(UserError, match="running cells"):
        build_method("views.videomae_v2", {**MODEL, "image_size": (6, 6)}, video)


def test_data_of_single_images_is_refused():
    with pytest.raises(UserError, match="trains on video"):
        build_method("views.videomae_v2", MODEL, {"image": VIDEO[:, 0]})
