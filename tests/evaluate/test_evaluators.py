"""Evaluators on a small made-up model, over padded batches, as the trainer runs them."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from maskjax.errors import UserError
from maskjax.evaluate import evaluators
from maskjax.evaluate.evaluator import Inputs
from maskjax.evaluate.picture_evaluators import Chosen, held_out_losses

SIZE, PATCH, CLASSES = 8, 2, 3
NUM = {"train": 70, "test": 45}


def images(split):
    """uint8[n, 8, 8, 3] and labels: noise around a colour per class."""
    rng = np.random.default_rng(len(split))
    label = np.arange(NUM[split]) % CLASSES
    colour = np.float32([[60, 120, 180], [180, 60, 120], [120, 180, 60]])[label]
    noise = rng.normal(size=(NUM[split], SIZE, SIZE, 3)) * 25
    return np.uint8(np.clip(colour[:, None, None] + noise, 0, 255)), label


def iterator(split, labels=True, batch=16):
    """A callable that gives a fresh padded evaluation iterator."""

    def fresh():
        pixels, label = images(split)
        for first in range(0, len(pixels), batch):
            count = min(batch, len(pixels) - first)
            rows = np.arange(first, first + batch) % len(pixels)
            position = np.stack([np.zeros(batch), rows], 1).astype(np.uint32)
            facts = {"image": pixels[rows], "position": position, "valid": np.arange(batch) < count}
            yield facts | ({"label": np.int32(label[rows])} if labels else {})

    return fresh


def patchify(image):
    cells = image.reshape(-1, SIZE // PATCH, PATCH, SIZE // PATCH, PATCH, 3)
    return cells.transpose(0, 1, 3, 2, 4, 5).reshape(len(image), -1, PATCH * PATCH * 3)


class Predict(dict):
    """Counts how often the encoder ran."""

    def __init__(self):
        super().__init__(encode=self.encode, reconstruct=self.reconstruct)
        self.encoded = 0

    def encode(self, params, extra, batch, draws):
        assert set(batch) == {"image", "position"}
        self.encoded += 1
        pixels = jnp.float32(batch["image"]).mean((1, 2)) / 255
        return {"cls": pixels @ params["w"], "mean": pixels @ params["w"], "tokens": pixels}

    def reconstruct(self, params, extra, batch, draws):
        image = jnp.float32(batch["image"]) / 255
        noise = draws.uniform("mask", (16,))
        return {
            "prediction": patchify(image) + params["error"],
            "target": patchify(image),
            "hidden": jnp.argsort(jnp.argsort(noise, 1), 1) >= 4,
            "pixels": image,
            "original": image,
        }


def state(step=100, error=0.1):
    params = {"w": jnp.eye(3, 6), "error": jnp.float32(error)}
    return types.SimpleNamespace(params=params, extra={}, step=jnp.int32(step))


def inputs(**options):
    return Inputs(iterator("train"), iterator("test"), **options)


def run(names, given=None, at=None, predict=None, **options):
    made = evaluators.make_evaluators(names, given or inputs(), **options)
    at, predict = at or state(), predict or Predict()
    return {key: value for e in made for key, value in e.run(predict, at)}


def test_scores_carry_their_protocol():
    predict = Predict()
    found = run(["knn", "linear_probe", "rank"], predict=predict)
    assert set(found) == {
        *(f"knn@{k}" for k in (10, 20, 100, 200)),
        "linear_probe",
        "effective_rank",
        "feature_spread",
    }
    score = found["knn@20"]
    assert (score.train_count, score.test_count, score.pool) == (70, 45, "mean")
    assert (score.weights, score.step, score.kind) == ("checkpoint step 100", 100, "accuracy")
    assert score.value > 0.9
    assert "clipped to all 70" in found["knn@200"].protocol
    assert float(found["linear_probe"]) > 0.9
    assert 1 <= float(found["effective_rank"]) <= 3
    # 5 train and 3 test batches, once for all three evaluators.
    assert predict.encoded == 8


def test_features_follow_the_state():
    given, predict = inputs(), Predict()
    (knn,) = evaluators.make_evaluators(["knn"], given, options={"knn": {"ks": (1,)}})
    first = state(step=0)
    assert dict(knn.run(predict, first))["knn@1"].weights == "random init"
    list(knn.run(predict, first))
    assert predict.encoded == 8
    list(knn.run(predict, state(step=5)))
    assert predict.encoded == 16
    named = run(["linear_probe"], inputs(weights="teacher"))
    assert named["linear_probe"].weights == "teacher"


def test_the_centred_variant_is_an_option():
    found = run(["knn"], options={"knn": {"ks": (5,), "centred": True}})
    assert set(found) == {"knn@5", "knn_centred@5"}


def test_raw_pixels_need_no_model():
    found = run(["raw_pixels"], predict={})
    assert found["raw_pixels/knn@20"].name == "knn@20"
    assert found["raw_pixels/knn@20"].key == "knn@20/raw pixels"
    assert found["raw_pixels/linear_probe"].weights == "raw pixels"
    assert "standardised per channel" in found["raw_pixels/knn@20"].protocol


def test_pictures():
    found = run(["reconstruction"], options={"reconstruction": {"num_images": 5}})
    assert set(found) == {"reconstruction", "mask_coverage"}
    for picture in found.values():
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
    again = run(["reconstruction"], options={"reconstruction": {"num_images": 5}})
    assert np.array_equal(found["reconstruction"], again["reconstruction"])
    other = run(["reconstruction"], inputs(seed=1), options={"reconstruction": {"num_images": 5}})
    assert not np.array_equal(found["reconstruction"], other["reconstruction"])


def test_the_sheet_shows_the_image_of_most_contrast_of_each_class():
    chosen = Chosen(3)
    for batch in iterator("test")():
        chosen.add(batch, {"original": batch["image"], "row": batch["position"][:, 1]})
    pixels, label = images("test")
    contrast = np.float32(pixels).reshape(len(pixels), -1).std(1)
    best = [max(np.flatnonzero(label == c), key=lambda i: contrast[i]) for c in range(CLASSES)]
    assert chosen.rows()["row"].tolist() == best
    plain = Chosen(4)
    for batch in iterator("test", labels=False)():
        plain.add(batch, {"row": batch["position"][:, 1]})
    assert plain.rows()["row"].tolist() == np.argsort(-contrast)[:4].tolist()
    assert Chosen(3).rows() == {}


def test_pictures_and_losses_need_no_labels():
    given = Inputs(iterator("train", labels=False), iterator("test", labels=False))
    found = run(["reconstruction", "held_out", "rank"], given)
    assert {"reconstruction", "held_out_loss", "effective_rank"} <= set(found)
    with pytest.raises(UserError, match="knn needs labels"):
        run(["knn"], given)


def test_the_held_out_loss_counts_every_image_once():
    found = run(["held_out"], at=state(error=0.1))
    assert float(found["held_out_loss"]) == pytest.approx(0.01, rel=1e-5)
    assert found["held_out_loss"].test_count == 45
    assert float(found["held_out_trivial"]) == pytest.approx((25 / 255) ** 2, rel=0.15)
    whole = Inputs(iterator("train"), iterator("test", batch=45))
    assert float(run(["held_out"], whole)["held_out_trivial"]) == pytest.approx(
        float(found["held_out_trivial"])
    )


def test_held_out_losses_against_loops():
    rng = np.random.default_rng(0)
    prediction, target = rng.normal(size=(2, 3, 5, 12))
    hidden = rng.random((3, 5)) < 0.6
    hidden[0] = True
    loss, trivial = held_out_losses(prediction, target, hidden, channels=3)
    for i in range(3):
        visible = target[i][~hidden[i]].reshape(-1, 3)
        guess = np.tile(visible.mean(0), 4) if len(visible) else np.zeros(12)
        chosen = target[i][hidden[i]]
        assert loss[i] == pytest.approx(np.square(prediction[i][hidden[i]] - chosen).mean())
        assert trivial[i] == pytest.approx(np.square(guess - chosen).mean())
    nothing = held_out_losses(prediction, target, np.zeros((3, 5), bool), channels=3)
    assert not np.any(nothing)


def test_normalised_grey_targets_have_a_trivial_error_of_one():
    rng = np.random.default_rng(0)
    target = rng.normal(size=(4, 50, 48))
    target = (target - target.mean(-1, keepdims=True)) / target.std(-1, ddof=1, keepdims=True)
    _, trivial = held_out_losses(target, target, rng.random((4, 50)) < 0.75, channels=3)
    assert trivial == pytest.approx(1, abs=0.03)


def test_unknown_names_list_the_valid_ones():
    with pytest.raises(
        UserError, match=r"no evaluator 'kn'. Did you mean 'knn'\? Evaluators: knn, "
    ):
        evaluators.make_evaluators(["rank", "kn"], inputs())
    with pytest.raises(UserError, match=r"evaluator 'knn'.*kk"):
        evaluators.make_evaluators(["knn"], inputs(), options={"knn": {"kk": 3}})
    with pytest.raises(UserError, match="cannot reconstruct: it offers encode"):
        run(["reconstruction"], predict={"encode": None})


def test_every_and_names_are_kept():
    made = evaluators.make_evaluators(evaluators.EVALUATORS, inputs(), every=7)
    assert [e.name for e in made] == list(evaluators.EVALUATORS)
    assert {e.every for e in made} == {7}
