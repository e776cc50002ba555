"""Scores of patches on small made-up outputs, where every value is known."""

import types

import numpy as np
import pytest

from maskjax.errors import UserError
from maskjax.evaluate.evaluator import Inputs
from maskjax.evaluate.evaluators import make_evaluators
from maskjax.evaluate.patch_maps import KINDS

STATE = types.SimpleNamespace(params={}, extra={}, step=np.int32(7))
# Two batches of three images; the last row only fills up.
VALID = [np.array([True] * 3), np.array([True, True, False])]


def batches():
    for number, valid in enumerate(VALID):
        position = np.stack([np.zeros(3), np.arange(3) + 3 * number], 1).astype(np.uint32)
        image = np.full((3, 8, 8, 3), 10 * number, np.uint8)
        image[:, 0] = np.arange(3)[:, None, None] * 50
        yield {"image": image, "position": position, "valid": valid}


def outputs(**fields):
    image = np.zeros((3, 8, 8, 3), np.float32)
    hidden = np.tile([True, True, True, False], (3, 1))
    return {"original": image, "pixels": image, "mixed": image, "hidden": hidden, **fields}


def run(name, given, **options):
    predict = dict.fromkeys(("reconstruct", "tokens", "gaze"), lambda *_: given)
    (one,) = make_evaluators([name], Inputs(batches, batches), options={name: options})
    found = dict(one.run(predict, STATE))
    picture = found.pop(name)
    assert picture.dtype == np.uint8
    return {key: score.value for key, score in found.items()}


def rows(values):
    """The third image's values are wrong where it only fills up, but it is counted once."""
    return np.tile(values, (3, 1))


def test_the_order_of_losses_counts_pairs_of_hidden_patches():
    errors = rows([1.0, 2.0, 3.0, 0.0])
    for difficulty, expected in (
        ([1, 5, 9, 100], 1.0),
        ([9, 5, 1, 0], 0.0),
        ([5, 5, 5, 5], 0.5),
        ([1, 9, 5, 0], 2 / 3),
    ):
        given = outputs(errors=errors, difficulty=rows(np.float64(difficulty)))
        assert run("difficulty", given)["difficulty_order"] == pytest.approx(expected)
    equal = outputs(errors=rows([1.0, 1.0, 2.0, 0.0]), difficulty=rows([3.0, 1.0, 2.0, 0.0]))
    # (1, 3) is wrong, (2, 3) right; the pair with equal losses does not count.
    assert run("difficulty", equal)["difficulty_order"] == 0.5


def test_choices_count_hidden_places():
    right = np.array([[True, False, False, True]] * 2 + [[True] * 4])
    found = run("choices", outputs(right=right))
    # The third image is right everywhere, and valid once: 1 + 1 + 3 + 1 + 1 of 15.
    assert found["choice_accuracy"] == pytest.approx(7 / 15)
    assert found["choice_accuracy_trivial"] == pytest.approx(1 / 3)


def test_the_gaze_beside_chance():
    found = run("gaze", outputs(importance=rows([1.0, 1.0, 2.0, 4.0])))
    assert found["gaze_visible"] == pytest.approx(1 / 2)
    assert found["gaze_visible_trivial"] == pytest.approx(1 / 4)


def test_recognition_beside_chance():
    owner = rows([0, 1, 2, 3])
    found = run("groups", outputs(owner=owner, kin=np.array([0.2, 0.4, 0.9])))
    assert found["kin_recognised"] == pytest.approx((0.2 + 0.4 + 0.9 + 0.2 + 0.4) / 5)
    assert found["kin_recognised_trivial"] == 0


def test_tokens_beside_the_most_frequent_one():
    given = outputs(ids=rows([4, 4, 1, 2]), predicted=rows([4, 1, 1, -1]))
    found = run("token_map", given, vocab=6)
    assert found["token_accuracy"] == pytest.approx(2 / 3)
    assert found["token_accuracy_trivial"] == pytest.approx(2 / 3)


def test_a_method_without_the_field_is_told():
    with pytest.raises(UserError, match=r"reconstruct gives no 'difficulty'; leave .*out"):
        run("difficulty", outputs())
    with pytest.raises(UserError, match="this method cannot tokens"):
        (one,) = make_evaluators(["token_map"], Inputs(batches, batches))
        list(one.run({}, STATE))
    nothing = Inputs(batches, lambda: iter(()))
    for kind in KINDS:
        (one,) = make_evaluators([kind.name], nothing)
        with pytest.raises(UserError, match="there are no images"):
            list(one.run({kind.predict: lambda *_: {}}, STATE))


def test_layers_are_means_over_valid_images():
    rates = {
        "encoder_zeros": np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]),
        "encoder_rate": np.array([[9.0, 1.0], [9.0, 2.0], [9.0, 7.5]]),
        "decoder_rate": np.ones((3, 4)),
    }
    (one,) = make_evaluators(["layers"], Inputs(batches, batches))
    found = dict(one.run({"rates": lambda *_: rates}, STATE))
    assert found.pop("layers").ndim == 3
    values = {key: score.value for key, score in found.items()}
    assert values == pytest.approx(
        {"zeros_last": 3 / 5, "coding_rate_first": 9.0, "coding_rate_last": 13.5 / 5}
    )
    assert found["coding_rate_last"].kind == "number"
    assert found["coding_rate_last"].test_count == 5


def test_attention_is_a_mean_over_heads_and_valid_images():
    distance = np.arange(12.0).reshape(3, 2, 2)
    seen = {"distance": distance, "mutual_information": np.full((3, 2, 2), 0.25)}
    (one,) = make_evaluators(["attention"], Inputs(batches, batches))
    found = dict(one.run({"attention": lambda *_: seen}, STATE))
    assert found.pop("attention").ndim == 3
    values = {key: score.value for key, score in found.items()}
    rows = np.concatenate([distance, distance])[np.concatenate(VALID)]
    assert values == pytest.approx(
        {
            "attention_distance_last": rows[:, -1].mean(),
            "attention_spread_last": 0.5,
            "attention_information_last": 0.25,
        }
    )
