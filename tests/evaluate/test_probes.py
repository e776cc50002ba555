"""Low-shot, small shares, and heads trained by the papers' protocols, on made-up features."""

import dataclasses
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from maskjax.config import load_config
from maskjax.errors import UserError
from maskjax.evaluate import low_shot
from maskjax.evaluate.evaluators import make_evaluators
from maskjax.evaluate.features import Features
from maskjax.evaluate.protocols import PROTOCOLS
from maskjax.evaluate.trained_probe import trained_probe

SHORT = dataclasses.replace(PROTOCOLS["mae_linear"], epochs=20, warmup=2, base_lr=3.0)


def clusters(num, classes=4, width=6, spread=0.3, seed=0):
    """Rows around the corners of a simplex, and their labels."""
    rng = np.random.default_rng(seed)
    label = np.arange(num) % classes
    rows = np.eye(classes, width)[label] * 3 + rng.normal(0, spread, (num, width))
    return rows.astype(np.float32), label


def features(num, seed=0):
    rows, label = clusters(num, seed=seed)
    return Features(rows, rows, label, np.arange(num, dtype=np.uint64))


def test_ridge_is_the_regression_of_scikit_learn():
    (rows, label), (test, _) = clusters(24, spread=2.0), clusters(30, spread=2.0, seed=1)
    centred = rows - rows.mean(0)
    alpha = low_shot.RIDGE * np.square(centred).sum(1).mean()
    reference = Ridge(alpha=alpha).fit(rows.astype(np.float64), np.eye(4)[label])
    np.testing.assert_array_equal(
        low_shot.ridge(rows, label, test), reference.predict(test.astype(np.float64)).argmax(1)
    )


def test_low_shot_finds_clear_clusters_and_needs_enough_images():
    (rows, label), (test, truth) = clusters(40), clusters(20, seed=1)
    for shots in (1, 5, 10):
        assert low_shot.low_shot(rows, label, test, truth, shots) == 1.0
    with pytest.raises(UserError, match="needs 25 training images of each"):
        low_shot.low_shot(rows, label, test, truth, 25)
    assert low_shot.possible(label, low_shot.SHOTS) == (1, 5, 10)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(20, 90), st.sampled_from([0.01, 0.1, 0.5]), st.integers(0, 9))
def test_shares_are_spread_over_the_classes(classes, num, share, seed):
    label = np.arange(num) % classes
    rows = low_shot.stratified(label, share, seed)
    assert len(np.unique(rows)) == len(rows)
    for one in range(classes):
        whole = (label == one).sum()
        assert (label[rows] == one).sum() == max(1, round(share * whole))


def test_a_probe_with_batch_norm_does_not_see_the_scale_of_features():
    (rows, label), (test, truth) = clusters(120, spread=1.5), clusters(80, spread=1.5, seed=1)
    value, batch = trained_probe(rows, label, test, truth, SHORT)
    assert value > 0.7 and batch == 32
    scale = np.float32([0.5, 2, 4, 8, 16, 1])
    assert trained_probe(rows * scale, label, test * scale, truth, SHORT)[0] == value
    with pytest.raises(UserError, match="needs at least 20 training images"):
        trained_probe(rows[:10], label[:10], test, truth, SHORT)


def test_scores_carry_the_name_of_their_protocol():
    train, test = features(280), features(40, seed=1)
    inputs = types.SimpleNamespace(features=lambda *_: (train, test), pool="mean", seed=0)
    inputs.score = lambda state, key, value, text, **facts: (value, text, facts)
    names = ("low_shot", "subset_probe", "mae_probe", "mlp_probe")
    found = {}
    for evaluator in make_evaluators(names, inputs):
        found |= dict(evaluator.run({}, None))
    shots = {f"low_shot@{n}" for n in (1, 5, 10, 25)}
    assert set(found) == {*shots, "linear_probe_10%", "mae_probe", "mlp_probe"}
    assert all(value > 0.9 for value, *_ in found.values())
    assert found["mae_probe"][1].startswith("MAE linear probe, on cached features without augment")
    rate = "lars, lr 6.4 (that of 16384 images), 90 epochs of batches of 32"
    assert rate in found["mae_probe"][1]
    assert found["mlp_probe"][1].startswith("MLP probe")
    assert found["linear_probe_10%"][2]["train_count"] == 28


@pytest.mark.parametrize("name", ["mae_linear_b16", "mae_linear_h14", "cae_attentive_b16"])
def test_configs_of_probes_are_the_protocols(name):
    config, _ = load_config(f"supervised/probe:{name}")
    protocol = name.rpartition("_")[0] + ("_large" if "h14" in name else "")
    chosen = PROTOCOLS[protocol]
    assert config.evaluate.protocol == chosen.name and config.model.freeze
    assert (config.data.global_batch, config.train.epochs) == (chosen.batch, chosen.epochs)
    assert config.optim.base_lr == chosen.base_lr and config.optim.name == chosen.optimizer
