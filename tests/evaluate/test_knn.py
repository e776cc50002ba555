"""kNN against a brute-force reference."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax.errors import UserError
from maskjax.evaluate import knn


def brute_force(train, train_label, test, test_label, k, temperature=0.07):
    """The protocol row by row in Python floats."""
    correct = 0
    for query, label in zip(test, test_label, strict=True):
        similarity = [
            float(np.dot(query, row) / (np.linalg.norm(query) * np.linalg.norm(row)))
            for row in train.astype(np.float64)
        ]
        nearest = sorted(range(len(train)), key=lambda i: -similarity[i])[:k]
        votes: dict[int, float] = {}
        for i in nearest:
            votes.setdefault(int(train_label[i]), 0.0)
            votes[int(train_label[i])] += math.exp(similarity[i] / temperature)
        correct += max(votes, key=votes.get) == label
    return correct / len(test)


def data(num_train=120, num_test=33, dim=6, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, dim))
    labels = rng.integers(0, classes, num_train + num_test)
    rows = (centres[labels] + rng.normal(size=(len(labels), dim))).astype(np.float32)
    return rows[:num_train], labels[:num_train], rows[num_train:], labels[num_train:]


@pytest.mark.parametrize("seed", range(3))
def test_against_brute_force(seed):
    given_data = data(seed=seed)
    found = knn.knn_accuracy(*given_data, ks=(1, 10, 20, 100))
    expected = {f"knn@{k}": brute_force(*given_data, k) for k in (1, 10, 20, 100)}
    assert found == pytest.approx(expected)
    assert 0.3 < found["knn@20"] < 1.0


def test_centring_is_brute_force_on_centred_rows():
    train, a, test, b = data()
    train, test = train + 5, test + 5
    mean = train.astype(np.float64).mean(0)
    found = knn.knn_accuracy(train, a, test, b, ks=(20,), centre=True)
    expected = brute_force(train - mean, a, test - mean, b, 20)
    assert found == pytest.approx({"knn_centred@20": expected})


def test_more_test_rows_than_a_chunk_and_order_does_not_matter():
    train, a, test, b = data(num_test=300)
    whole = knn.knn_accuracy(train, a, test, b, ks=(10,))["knn@10"]
    parts = [
        knn.knn_accuracy(train, a, test[i], b[i], ks=(10,))["knn@10"]
        for i in (slice(0, 100), slice(100, 300))
    ]
    assert whole == pytest.approx(parts[0] / 3 + parts[1] * 2 / 3)
    order = np.random.default_rng(1).permutation(len(test))
    assert knn.knn_accuracy(train, a, test[order], b[order], ks=(10,))["knn@10"] == whole


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.1, 100))
def test_scale_does_not_matter_and_train_rows_find_themselves(seed, scale):
    train, a, test, b = data(seed=seed)
    found = knn.knn_accuracy(train, a, test, b, ks=(1, 20))
    assert all(0 <= value <= 1 for value in found.values())
    assert knn.knn_accuracy(train * np.float32(scale), a, test, b, ks=(1, 20)) == pytest.approx(
        found, abs=0.04
    )
    assert knn.knn_accuracy(train, a, train, a, ks=(1,)) == {"knn@1": 1.0}


def test_a_large_k_is_clipped_and_said():
    train, a, test, b = data(num_train=30)
    found = knn.knn_accuracy(train, a, test, b, ks=(30, 200))
    assert found["knn@200"] == found["knn@30"]
    assert "clipped to all 30" in knn.protocol(200, 30)
    assert "clipped" not in knn.protocol(30, 30)
    assert "mean subtracted" in knn.protocol(20, 30, centre=True)


def test_zero_features_and_bad_input():
    train, a, test, b = data()
    zeros = knn.knn_accuracy(np.zeros_like(train), a, np.zeros_like(test), b, ks=(20,))
    assert 0 <= zeros["knn@20"] <= 1
    for bad in (
        (train[:0], a[:0], test, b),
        (train[:, :2], a, test, b),
        (train, a[1:], test, b),
        (train, a - 1, test, b),
    ):
        with pytest.raises(UserError, match="kNN needs"):
            knn.knn_accuracy(*bad)
    with pytest.raises(UserError, match="k of 1 or more"):
        knn.knn_accuracy(train, a, test, b, ks=(0,))
