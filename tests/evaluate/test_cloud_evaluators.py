"""Completed clouds: distances, picture; the linear SVM."""

import types

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.svm import LinearSVC

from maskjax import losses
from maskjax.errors import UserError
from maskjax.evaluate.cloud_evaluators import completion_errors
from maskjax.evaluate.evaluators import make_evaluators
from maskjax.evaluate.features import Features
from maskjax.evaluate.linear_svm import linear_svm
from maskjax.observe.clouds import cloud_picture

RNG = np.random.default_rng(0)
CENTERS = RNG.normal(size=(6, 4, 3)).astype(np.float32)
FOUND = {
    "prediction": CENTERS[:, :, None] + RNG.normal(0, 0.1, (6, 4, 5, 3)).astype(np.float32),
    "target": CENTERS[:, :, None] + RNG.normal(0, 0.2, (6, 4, 5, 3)).astype(np.float32),
    "hidden": RNG.random((6, 4)) < 0.6,
    "centers": CENTERS,
}


def inputs(labelled=True):
    """Two batches of three clouds, the last of which is padding."""

    def test():
        for start in (0, 3):
            batch = {"points": CENTERS[start : start + 3], "position": np.zeros((3, 2), np.uint32)}
            batch["valid"] = np.array([True, True, start == 0])
            batch["start"] = start
            yield batch | ({"label": np.arange(start, start + 3) % 3} if labelled else {})

    made = types.SimpleNamespace(test=test)
    rows = lambda batch: slice(batch["start"], batch["start"] + 3)  # noqa: E731
    made.runner = lambda *_: lambda batch: {k: v[rows(batch)] for k, v in FOUND.items()}
    made.score = lambda state, key, value, text, **facts: (value, text, facts)
    return made


def test_errors_are_the_loss_of_the_hidden_tokens_of_each_cloud():
    distance, trivial = completion_errors(**FOUND)
    tokens = np.asarray(losses.chamfer(FOUND["prediction"], FOUND["target"]))
    guess = jnp.broadcast_to(CENTERS[:, :, None], FOUND["target"].shape)
    at_centre = np.asarray(losses.chamfer(guess, FOUND["target"]))
    for cloud, hidden in enumerate(FOUND["hidden"]):
        expected = tokens[cloud, hidden].mean() if hidden.any() else 0
        assert distance[cloud] == pytest.approx(expected, rel=1e-5)
        expected = at_centre[cloud, hidden].mean() if hidden.any() else 0
        assert trivial[cloud] == pytest.approx(expected, rel=1e-5)
    nothing = {**FOUND, "hidden": np.zeros((6, 4), bool)}
    assert not np.any(completion_errors(**nothing))


@pytest.mark.parametrize("labelled", [True, False])
def test_every_cloud_counts_once_and_each_class_is_drawn(labelled):
    (evaluator,) = make_evaluators(("completion",), inputs(labelled))
    found = dict(evaluator.run({"complete": None}, types.SimpleNamespace(step=7)))
    distance, trivial = completion_errors(**FOUND)
    assert found["completion_distance"][0] == pytest.approx(distance[:5].mean())
    assert found["completion_trivial"][0] == pytest.approx(trivial[:5].mean())
    assert found["completion_distance"][2]["test_count"] == 5
    assert found["completion"].dtype == np.uint8 and found["completion"].std() > 0
    with pytest.raises(UserError, match="cannot complete"):
        list(evaluator.run({}, None))


def test_a_cloud_is_drawn_upright_near_points_light():
    points = np.array([[0, 0, 0], [1, 1, 1.0]])
    picture = cloud_picture(points, 21, dot=1).astype(int)
    inked = np.argwhere(picture.sum(-1) < 3 * 255)
    assert inked.tolist() == [[0, 20], [20, 0]]
    assert picture[0, 20].sum() > picture[20, 0].sum()
    empty = cloud_picture(points[:0], 21, (points.min(0), points.max(0)))
    assert (empty == 255).all()


def test_the_linear_svm_is_scikit_learns_on_features_as_they_are():
    label = np.arange(60) % 3
    rows = (np.eye(3, 5)[label] * 20 + RNG.normal(0, 5, (60, 5))).astype(np.float32)
    model = LinearSVC(C=0.01, random_state=0).fit(rows[:40].astype(np.float64), label[:40])
    expected = (model.predict(rows[40:].astype(np.float64)) == label[40:]).mean()
    assert linear_svm(rows[:40], label[:40], rows[40:], label[40:]) == expected > 0.8
    with pytest.raises(UserError, match="two classes"):
        linear_svm(rows[:3], np.zeros(3, int), rows, label)
    split = [
        Features(r, r, y, np.arange(len(y))) for r, y in ((rows[:40], label[:40]), (rows, label))
    ]
    made = types.SimpleNamespace(features=lambda *_: split, pool="cls", seed=0)
    made.score = lambda state, key, value, text, **facts: (value, text, facts)
    (evaluator,) = make_evaluators(("linear_svm",), made)
    ((key, (value, text, facts)),) = evaluator.run({}, None)
    assert key == "linear_svm" and value > 0.8 and "C = 0.01" in text and facts["pool"] == "cls"
