"""The classifier of point clouds: its reach, its loss, the weights it starts from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from maskjax.errors import UserError
from maskjax.interop.convert import from_torch, to_torch
from maskjax.interop.layouts import i2p_mae as layout
from maskjax.masking import Draws
from maskjax.method import build_method
from maskjax.nn.point_encoder import BLOCKED, attention_bias

CLOUDS = np.random.default_rng(0).normal(size=(4, 32, 3)).astype(np.float32)
BATCH = {
    "points": jnp.asarray(CLOUDS),
    "label": jnp.asarray([0, 1, 2, 1]),
    "position": tiny.positions(4),
}
SMALL = {
    "num_points": 32,
    "num_groups": (16, 8, 4),
    "group_sizes": (6, 4, 3),
    "radius": (0.8, 1.2, 0.0),
    "encoder": {"dims": (8, 8, 12), "depths": (1, 1, 1), "heads": 2},
    "num_classes": 3,
    "hidden": 8,
}


def build(**changes):
    return build_method("supervised.classify_points", {**SMALL, **changes}, BATCH)


def test_a_token_sees_what_is_nearer_than_the_radius():
    centers = jnp.asarray([[[0, 0, 0], [0.5, 0, 0], [2, 0, 0], [0, 1, 0]]])
    bias = np.asarray(attention_bias(centers, None, 1.0))[0, 0]
    near = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], bool)
    np.testing.assert_array_equal(bias, np.where(near, 0, BLOCKED))
    valid = jnp.asarray([[True, False, True, True]])
    both = np.asarray(attention_bias(centers, valid, 1.0))[0, 0]
    np.testing.assert_array_equal(both, np.where(np.eye(4, dtype=bool) & valid, 0, BLOCKED))
    assert attention_bias(centers, None, 0.0) is None


@pytest.mark.parametrize("pool", ["add", "concat"])
def test_smoothing_dropout_and_features(pool):
    method = build(pool=pool)
    params, extra = jax.jit(method.init)(jax.random.key(0), BATCH)
    draws = Draws.keyed(jax.random.key(0), jnp.asarray(BATCH["position"]))

    @jax.jit
    def run(params, extra):
        terms, aux = method.phases[0].fn(params, extra, BATCH, draws, 0, None)
        found = {name: fn(params, extra, BATCH, draws) for name, fn in method.predict.items()}
        return terms, method.after_update(params, extra, aux, 0), found

    terms, after, found = run(params, extra)
    assert np.isfinite(terms["classification"].sum) and terms["classification"].weight == 4
    changed = jax.tree.map(lambda a, b: bool(np.any(a != b)), extra, after)
    assert all(jax.tree.leaves(changed))
    assert found["encode"]["cls"].shape == (4, 12 if pool == "add" else 24)
    logits = found["classify"]["logits"]
    errors = method.phases[0].fn.__self__.errors(logits, BATCH["label"])
    shares = np.full((4, 3), 0.1) + 0.7 * np.eye(3)[np.asarray(BATCH["label"])]
    expected = -(shares * jax.nn.log_softmax(logits)).sum(-1)
    np.testing.assert_allclose(errors, expected, rtol=1e-5)


def test_it_starts_from_the_encoder_of_the_pretraining():
    """Names and shapes of parameters and statistics are those of `views.i2p_mae`."""
    teacher = {"file": "random", "change": ("dim=8", "depth=1", "heads=2", "mlp_hidden=8")}
    model = {key: SMALL[key] for key in ("num_points", "num_groups", "group_sizes", "encoder")}
    decoder = {"dims": (12, 8), "depths": (1, 1), "heads": 2}
    other = build_method("views.i2p_mae", {**model, "decoder": decoder, "teacher": teacher}, BATCH)
    old, new = (jax.eval_shape(m.init, jax.random.key(0), BATCH) for m in (other, build()))
    for before, after in ((old[0], new[0]), *((x["batch_stats"] for x in (old[1], new[1])),)):
        before, after = (jax.tree_util.tree_leaves_with_path(x["encoder"]) for x in (before, after))
        there = {jax.tree_util.keystr(path): leaf.shape for path, leaf in before}
        assert all(there[jax.tree_util.keystr(path)] == leaf.shape for path, leaf in after)


def test_official_names_both_ways():
    params, extra = jax.eval_shape(build().init, jax.random.key(0), BATCH)
    tree = {"params": tiny.filled(params), "batch_stats": tiny.filled(extra["batch_stats"], 1)}
    rules = layout.rules_classifier(3)
    again = from_torch(to_torch(tree, rules), rules, tree)
    jax.tree.map(np.testing.assert_array_equal, again, tree)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"radius": (0.1, 0.2)}, "config.model.radius"),
        ({"pool": "max"}, "config.model.pool = 'max'"),
        ({"num_classes": 1}, "config.model.num_classes = 1"),
        ({"dropout": 1.0}, "config.model.dropout"),
        ({"encoder": {**SMALL["encoder"], "dims": (8, 12), "depths": (1, 1)}}, "the 3 scales"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(changes, message):
    with pytest.raises(UserError, match=message):
        build(**changes)
