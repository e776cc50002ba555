"""Hybrid Distill: the invariants of its sheet (there is no reference), and what it refuses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from maskjax import losses
from maskjax.errors import UserError
from maskjax.masking import Draws
from maskjax.method import build_method
from maskjax.nn.shrinking_vit import parts

BATCH = tiny.batch(4)
SIZES = ("dim=16", "depth=3", "heads=2", "mlp_hidden=32", "patch_size=2")
TEACHER = {"name": "mae_b16", "file": "random", "change": SIZES}
MODEL = {
    "image_size": (8, 8),
    "patch_size": 2,
    "encoder": {"dim": 16, "depth": 3, "heads": 2, "mlp_ratio": 2.0},
    "feature_teacher": TEACHER,
    "relation_teacher": TEACHER,
    "target_norm": "none",
    "mask": {"num_keep": (12, 9, 5)},
}
COUNTS = (12, 9, 5)
NOISE = np.random.default_rng(1).random((4, 16), np.float32)


def build(kind="progressive", mask=None, **changes):
    counts = {"progressive": COUNTS, "none": ()}.get(kind, (5,))
    mask = {"kind": kind, "num_keep": counts, **(mask or {})}
    return build_method("distill.hybrid_distill", {**MODEL, "mask": mask, **changes}, BATCH)


def state(method, seed=0):
    shapes = jax.eval_shape(method.init, jax.random.key(0), BATCH)
    return tuple(tiny.filled(tree, seed) for tree in shapes)


def draws():
    return Draws.keyed(jax.random.key(0), tiny.positions(4))


def runner(method):
    """(params, extra, image) -> (terms, activations), jitted."""

    def run(params, extra, image):
        batch, seen = {"image": image}, {}
        terms, _ = method.phases[0].fn(params, extra, batch, draws(), jnp.int32(0), None)
        seen = method.predict["activations"](params, extra, batch, draws())
        return {name: losses.total({name: term}) for name, term in terms.items()}, seen

    return jax.jit(run)


@functools.cache
def usual(kind):
    method = build(kind)
    return method, *state(method), runner(method)


@pytest.mark.parametrize(("kind", "see"), [("none", "image"), ("direct", "kept")])
def test_1_a_student_that_is_both_teachers_has_no_loss(kind, see):
    """With whole images and no mask, and where teachers see what the student sees."""
    method = build(kind, teachers_see=see, relations=("query_key", "value_value"))
    params, _ = state(method)
    twins = dict.fromkeys(("feature_teacher", "relation_teacher"), params)
    terms, seen = runner(method)(params, twins, BATCH["image"])
    assert seen["latent"].shape == (4, 17 if kind == "none" else 6, 16)
    assert max(terms["features"], terms["relations"]) < 1e-9
    _, others = state(method, seed=1)
    terms, _ = runner(method)(params, others, BATCH["image"])
    assert min(terms["features"], terms["relations"]) > 1e-2


def test_1_rows_and_columns_are_those_of_the_tokens_that_are_left():
    """The first layer's queries and keys look at one token each: no mask changes them."""
    _, params, extra, run = usual("progressive")
    twins = {**extra, "relation_teacher": params}
    _, seen = run(params, twins, BATCH["image"])
    errors = np.asarray(seen["relation_errors"])
    assert errors.shape == (4, 2)
    assert errors[:, 0].max() < 1e-9 and errors[:, 1].min() > 1e-6


def test_2_relations_follow_the_order_of_tokens():
    rng = np.random.default_rng(0)
    query, key = rng.normal(size=(2, 3, 2, 7, 4)).astype(np.float32)
    found = losses.relations(query, key)
    np.testing.assert_allclose(found, query @ key.swapaxes(-1, -2) / 2, rtol=1e-5, atol=1e-6)
    order = rng.permutation(7)
    moved = losses.relations(query[:, :, order], key[:, :, order])
    np.testing.assert_allclose(moved, found[:, :, order][..., order], rtol=1e-5)
    other = losses.relations(key, query)
    for distance in ("smooth_l1", "l1", "l2", "kl"):
        error = losses.relation_error(found, other, distance)
        assert error.shape == (3, 2, 7) and (np.asarray(error) > 0).all()
        assert (np.abs(losses.relation_error(found, found, distance)) < 1e-6).all()
        again = losses.relation_error(moved, other[:, :, order][..., order], distance)
        np.testing.assert_allclose(again.mean(-1), error.mean(-1), rtol=1e-4)
    softmax = lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)  # noqa: E731
    own, wanted = softmax(np.asarray(found)), softmax(np.asarray(other))
    expected = (wanted * np.log(wanted / own)).sum(-1)
    np.testing.assert_allclose(losses.relation_error(found, other, "kl"), expected, rtol=1e-4)


def test_2_heads_are_cut_anew_from_all_of_them_together():
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(2, 3, 2, 5, 6)).astype(np.float32)
    np.testing.assert_array_equal(losses.relations(left, right, 2), losses.relations(left, right))
    four = losses.relations(left, right, 4)
    halves = [
        x.reshape(3, 2, 5, 2, 3).transpose(0, 1, 3, 2, 4).reshape(3, 4, 5, 3) for x in (left, right)
    ]
    np.testing.assert_allclose(four, losses.relations(*halves), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="5 relation heads do not divide the width 12"):
        losses.relations(left, right, 5)
    # Teacher and student of other widths and heads.
    other = {**TEACHER, "change": ("dim=24", "depth=2", "heads=3", "mlp_hidden=24", "patch_size=2")}
    method = build("none", relation_teacher=other, relation_heads=4, relation_layers=(0, 1))
    params, extra = state(method)
    terms = lambda: method.phases[0].fn(params, extra, BATCH, draws(), jnp.int32(0), None)[0]  # noqa: E731
    assert jax.eval_shape(terms)["relations"].sum.shape == ()


def test_3_counts_are_exact_and_what_left_stays_away():
    _, params, extra, run = usual("progressive")
    _, seen = run(params, extra, BATCH["image"])
    stage, ids = np.asarray(seen["stage"]), np.asarray(seen["ids"])
    for point, count in enumerate(COUNTS):
        assert ((stage > point).sum(1) == count).all()
        for image in range(4):
            assert set(np.flatnonzero(stage[image] > point)) == set(ids[image, :count])
    assert seen["latent"].shape == (4, 1 + COUNTS[-1], 16)
    assert parts(3, {0: 12, 1: 9, 2: 5}, (0, 1)) == [
        (0, 1, 12, True),
        (1, 2, 9, True),
        (2, 3, 5, False),
    ]
    assert parts(4, {0: 7}, (2, 3)) == [(0, 2, 7, False), (2, 4, 7, True)]


def test_4_copies_leave_before_what_is_like_nothing_else():
    """At the first point, by patch embeddings, whose positions do not count."""
    rng = np.random.default_rng(0)
    image = np.tile(rng.integers(0, 256, (2, 2, 3)), (1, 4, 4, 1)).astype(np.uint8)
    alone = [3, 6, 9, 12]
    for cell in alone:
        row, column = 2 * (cell // 4), 2 * (cell % 4)
        image[0, row : row + 2, column : column + 2] = rng.integers(0, 256, (2, 2, 3))
    _, params, extra, run = usual("progressive")
    encoder = extra["feature_teacher"]["encoder"]
    embed = {**encoder["patch_embed"], "bias": jnp.zeros(16)}
    extra = {**extra, "feature_teacher": {"encoder": {**encoder, "patch_embed": embed}}}
    _, seen = run(params, extra, np.repeat(image, 4, 0))
    left = set(np.flatnonzero(np.asarray(seen["stage"])[0] == 0))
    assert len(left) == 4 and not left & set(alone)


def test_5_each_term_is_of_its_own_teacher():
    method, params, extra, run = usual("random")
    _, other = state(method, seed=1)
    first, _ = run(params, extra, BATCH["image"])
    for name, term in (("feature_teacher", "features"), ("relation_teacher", "relations")):
        found, _ = run(params, {**extra, name: other[name]}, BATCH["image"])
        changed = [key for key in found if found[key] != first[key]]
        assert changed == [term]
    without = build("random", beta=0), build("random", alpha=0)
    assert [list(m.load.values()) for m in without] == [
        ["model.feature_teacher"],
        ["model.relation_teacher"],
    ]
    assert build("progressive", alpha=0).load.keys() == method.load.keys()
    for one, term in zip(without, ("features", "relations"), strict=True):
        kept = {name: extra[name] for name in ("feature_teacher", "relation_teacher")}
        kept = {name: kept[name] for name in kept if f"extra/{name}" in one.load}
        fn = functools.partial(one.phases[0].fn, batch=BATCH, draws=draws(), step=0, static=None)
        terms, _ = jax.jit(fn)(params, kept)
        assert terms.keys() == {term}
        assert float(losses.total(terms)) == pytest.approx(float(first[term]), rel=1e-5)


def test_6_the_student_sees_only_what_is_left_and_teaches_no_teacher():
    method, params, extra, _ = usual("progressive")

    def total(image, extra):
        seen = method.predict["activations"](params, extra, {"image": image}, draws())
        return jnp.square(seen["latent"]).sum(), seen["stage"]

    def all_terms(image, extra):
        terms, _ = method.phases[0].fn(params, extra, {"image": image}, draws(), jnp.int32(0), None)
        return losses.total(terms)

    image = jnp.asarray(BATCH["image"], jnp.float32) / 255
    both = lambda i, e: (jax.grad(total, has_aux=True)(i, e), jax.grad(all_terms, 1)(i, e))  # noqa: E731
    (gradient, stage), of_teachers = jax.jit(both)(image, extra)
    cells = np.asarray(stage).reshape(4, 4, 4).repeat(2, 1).repeat(2, 2)
    gradient = np.asarray(gradient)
    assert (gradient[cells == 0] == 0).all()
    # What leaves later was looked at before it left.
    assert (gradient[cells > 0] != 0).any(-1).all()
    assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(of_teachers))


def test_without_a_mask_features_are_those_of_the_plain_encoder():
    method, params, extra, run = usual("none")
    _, seen = run(params, extra, BATCH["image"])
    plain = jax.jit(lambda p: method.predict["encode"](p, {}, BATCH, None))(params)
    np.testing.assert_allclose(seen["latent"][:, 1:], plain["tokens"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(seen["latent"][:, 0], plain["cls"], rtol=1e-4, atol=1e-5)


def test_some_layers_are_those_of_all_and_remat_changes_no_number():
    _, params, extra, run = usual("progressive")
    terms, seen = run(params, extra, BATCH["image"])
    one = build(relation_layers=(1,), remat="full", scan="on")
    other, found = runner(one)(params, extra, BATCH["image"])
    np.testing.assert_allclose(
        found["relation_errors"][:, 0], seen["relation_errors"][:, 1], rtol=1e-4
    )
    assert float(other["features"]) == pytest.approx(float(terms["features"]), rel=1e-4)
    whole = np.asarray(seen["relation_errors"]).sum(1).mean()
    assert float(terms["relations"]) == pytest.approx(whole, rel=1e-5)


def test_the_picture_of_stages_and_the_measures_of_attention():
    method, params, extra, run = usual("progressive")
    _, seen = run(params, extra, BATCH["image"])
    both = lambda p, e: (  # noqa: E731
        method.predict["stages"](p, e, BATCH, draws()),
        method.predict["attention"](p, e, BATCH, draws()),
    )
    stages, attention = jax.jit(both)(params, extra)
    np.testing.assert_array_equal(stages["stage"], seen["stage"])
    np.testing.assert_array_equal(stages["hidden"], np.asarray(seen["stage"]) < 3)
    assert (np.abs(stages["likeness_all"]) <= 1).all()
    body = method.phases[0].fn.__self__
    one = body.of_features
    tokens = one(extra["feature_teacher"], one.patches(BATCH["image"]))[0]["tokens"]
    unit = np.asarray(tokens / jnp.linalg.norm(tokens, axis=-1, keepdims=True))
    for image in range(4):
        some = unit[image][~np.asarray(stages["hidden"])[image]]
        pairs = (some @ some.T)[~np.eye(len(some), dtype=bool)]
        assert float(stages["likeness"][image]) == pytest.approx(pairs.mean(), abs=1e-4)
    assert attention["distance"].shape == attention["mutual_information"].shape == (4, 3, 2)
    assert (attention["distance"] > 0).all() and (attention["mutual_information"] < 1).all()
    assert "stages" not in build("random", alpha=0).predict


def test_no_scatter_is_in_the_gradient():
    method = build(scan="on")
    shapes = jax.eval_shape(method.init, jax.random.key(0), BATCH)

    def total(params, extra):
        terms, _ = method.phases[0].fn(params, extra, BATCH, draws(), jnp.int32(0), None)
        return losses.total(terms)

    assert "scatter" not in jax.jit(jax.grad(total)).lower(*shapes).as_text()


def test_a_head_for_other_widths_whitened_targets_and_anchors():
    wide = {**TEACHER, "change": (*SIZES, "dim=24", "heads=3", "cls=false", "position=learned")}
    method = build(
        feature_teacher=wide, target_norm="whiten", mask={"num_anchors": 4, "kind": "progressive"}
    )
    params, extra = state(method)
    assert params["feature_head"]["layer0"]["kernel"].shape == (16, 24)
    body = method.phases[0].fn.__self__

    def run(params, extra):
        split, tokens = body.look(extra, BATCH, draws())
        latent, _ = body.run(params, extra, BATCH, split)
        return split.ids, tokens, latent, body.distance(params, latent, tokens, split)

    ids, tokens, latent, distance = jax.jit(run)(params, extra)
    assert distance.shape == (4, 5)  # the teacher has no class token
    wanted = np.take_along_axis(np.asarray(tokens), np.asarray(ids)[:, :5, None], 1)
    wanted = (wanted - wanted.mean(-1, keepdims=True)) / np.sqrt(
        wanted.var(-1, keepdims=True) + 1e-5
    )
    head = jax.tree.map(np.asarray, params["feature_head"]["layer0"])
    own = np.asarray(latent)[:, 1:] @ head["kernel"] + head["bias"]
    gap = np.abs(own - wanted)
    expected = np.where(gap < 1, gap**2 / 2, gap - 0.5).mean(-1)
    np.testing.assert_allclose(distance, expected, rtol=1e-3, atol=1e-4)


ERRORS = {
    r"config\.model\.mask\.points = \(1, 2\): must rise from 0": {"mask": {"points": (1, 2)}},
    r"config\.model\.mask\.num_keep = \(5, 6, 7\)": {"mask": {"num_keep": (5, 6, 7)}},
    r"config\.model\.mask\.ratio = 1\.5": {"mask": {"num_keep": (), "ratio": 1.5}},
    r"config\.model\.mask\.num_anchors = 1": {"mask": {"num_anchors": 1}},
    r"config\.model\.mask\.kind = 'all'": {"mask": {"kind": "all"}},
    r"config\.model\.teachers_see = 'kept': needs a mask of one point": {"teachers_see": "kept"},
    r"config\.model\.relation_layers = \(0, 3\): .* the 3 blocks": {"relation_layers": (0, 3)},
    r"config\.model\.relations = \('key',\)": {"relations": ("key",)},
    r"config\.model\.relation_distance = 'cosine'": {"relation_distance": "cosine"},
    r"config\.model\.relation_heads = 0: .* have \(2, 4\) heads": {
        "relation_teacher": {**TEACHER, "change": (*SIZES, "heads=4")}
    },
    r"config\.model\.head = 'none': the feature teacher is 24 wide": {
        "feature_teacher": {**TEACHER, "change": (*SIZES, "dim=24")},
        "head": "none",
    },
    r"config\.model\.alpha = 0\.0: or beta": {"alpha": 0, "beta": 0},
}


@pytest.mark.parametrize("message", ERRORS)
def test_build_errors_name_the_config_path(message):
    changes = dict(ERRORS[message])
    with pytest.raises(UserError, match=message):
        build(mask=changes.pop("mask", None), **changes)
