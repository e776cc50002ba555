"""The probe against scikit-learn used directly; its split; its scaling."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from maskjax.errors import UserError
from maskjax.evaluate import linear_probe as probes


def data(seed=0, num=400, dim=8, classes=4):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, num)
    rows = rng.normal(size=(classes, dim))[labels] + 1.2 * rng.normal(size=(num, dim))
    rows = (rows * np.logspace(-2, 2, dim) + 7).astype(np.float32)
    return rows[:300], labels[:300], rows[300:], labels[300:]


@pytest.mark.parametrize("strength", [1e-1, 1e-3])
def test_one_strength_is_scikit_learn(strength):
    train, a, test, b = data()
    found = probes.linear_probe(train, a, test, b, strengths=(strength,))
    scaler = StandardScaler().fit(train.astype(np.float64))
    model = LogisticRegression(C=1 / (strength * len(train)), max_iter=1000)
    model.fit(scaler.transform(train), a)
    expected = (model.predict(scaler.transform(test)) == b).mean()
    assert found.accuracy == pytest.approx(expected, abs=0.011)  # at most one image of 100
    assert found.strength == strength
    assert found.converged


def test_the_strength_is_chosen_on_held_out_rows_only():
    train, a, test, b = data()
    found = probes.linear_probe(train, a, test, b)
    assert found.strength == probes.STRENGTHS[int(np.argmax(found.held_out))]
    assert len(found.held_out) == 7
    shuffled = probes.linear_probe(train, a, test, b[::-1])
    assert (shuffled.strength, shuffled.held_out) == (found.strength, found.held_out)
    held = probes.held_out_rows(a, seed=0)
    scaled, _ = probes.standardize(train, test)
    model = LogisticRegression(C=1 / (found.strength * 270), max_iter=1000)
    expected = model.fit(scaled[~held], a[~held]).score(scaled[held], a[held])
    assert max(found.held_out) == pytest.approx(expected, abs=0.034)  # one of 30


def test_the_same_twice_and_scale_does_not_matter():
    train, a, test, b = data()
    found = probes.linear_probe(train, a, test, b)
    assert probes.linear_probe(train, a, test, b) == found
    scaled = probes.linear_probe(train * 4 + 1, a, test * 4 + 1, b)
    assert scaled.accuracy == pytest.approx(found.accuracy, abs=0.021)


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 200), st.integers(2, 7), st.integers(0, 2**31))
def test_the_held_out_tenth_is_spread_over_classes(num, classes, seed):
    labels = np.random.default_rng(seed).integers(0, classes, num)
    held = probes.held_out_rows(labels, seed)
    assert abs(held.sum() - num / 10) <= 1
    for label in range(classes):
        mine = labels == label
        assert abs(held[mine].sum() - mine.sum() / 10) <= 1
    assert np.array_equal(held, probes.held_out_rows(labels, seed))


def test_constant_features_become_zero():
    train = np.float32([[1, 3e7, 0], [2, 3e7, 0], [3, 3e7, 0]])
    scaled, test = probes.standardize(train, train + 1)
    assert np.array_equal(scaled[:, 1:], np.zeros((3, 2)))
    assert np.array_equal(test[:, 1:], np.zeros((3, 2)))
    assert scaled[:, 0].std() == pytest.approx(1)


def test_wide_features_can_be_rotated_to_fewer():
    train, a, test, b = data(dim=8)
    exact = probes.linear_probe(train, a, test, b, max_dim=8)
    assert exact == probes.linear_probe(train, a, test, b)
    mixing = np.random.default_rng(0).normal(size=(8, 60))
    standard = probes.standardize(train, test)
    wide = probes.linear_probe(standard[0] @ mixing, a, standard[1] @ mixing, b, max_dim=8)
    assert wide.components == 8
    assert wide.accuracy == pytest.approx(exact.accuracy, abs=0.05)
    assert "first 8 principal components" in probes.protocol(wide)


def test_a_rare_class_and_too_little_data():
    train, a, test, b = data()
    a = a.copy()
    a[0] = 9
    assert probes.linear_probe(train, a, test, b, strengths=(0.1,)).accuracy > 0.4
    with pytest.raises(UserError, match="at least 20 training images"):
        probes.linear_probe(train[:10], a[:10], test, b)
    with pytest.raises(UserError, match="two classes"):
        probes.linear_probe(train, np.zeros(300, int), test, b)


def test_protocol_tells_the_strength_and_an_early_stop():
    probe = probes.Probe(0.5, 1e-3, (0.5,), True)
    assert "0.001" in probes.protocol(probe)
    assert "stopped" not in probes.protocol(probe)
    assert "stopped after 200" in probes.protocol(probe._replace(converged=False))
