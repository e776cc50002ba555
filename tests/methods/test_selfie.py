"""Selfie: the invariants of the choice, of both networks, and of their statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from maskjax import losses
from maskjax.errors import UserError
from maskjax.interop.convert import from_torch, to_torch
from maskjax.interop.layouts import resnet
from maskjax.masking import Draws
from maskjax.method import build_method
from maskjax.nn.masked_resnet import MaskedResNet
from maskjax.nn.patch_resnet import PatchResNet

NET = {"stem": 4, "widths": (2, 4), "blocks": (1, 2), "expansion": 4}
MODEL = {
    "image_size": (8, 8),
    "patch_size": 2,
    "mean": (0.5,) * 3,
    "std": (0.25,) * 3,
    "net": NET,
    "pool": {"layers": 1, "heads": 2, "hidden": 12},
    "dropout": 0.0,
}
BATCH = tiny.batch(5)
IMAGE = jnp.asarray(BATCH["image"], jnp.float32) / 64 - 2
SCORE = jnp.asarray(np.random.default_rng(0).uniform(size=(5, 16)), jnp.float32)


def build(**model):
    return build_method("mim.selfie", {**MODEL, **model}, BATCH)


def weights(method):
    params, extra = jax.eval_shape(method.init, jax.random.key(0), BATCH)
    stats = tiny.filled(extra, 1)["batch_stats"]
    path_is_var = lambda path, x: jnp.abs(x) + 0.5 if "var" in str(path[-1]) else x  # noqa: E731
    stats = jax.tree_util.tree_map_with_path(path_is_var, stats)
    return tiny.filled(params), {"batch_stats": stats}


@pytest.fixture(scope="module")
def selfie():
    return build()


@pytest.fixture(scope="module")
def choose(selfie):
    def run(params, extra, image, score):
        draws = Draws.replay({"mask": score})
        return selfie.predict["choose"](params, extra, {"image": image}, draws)

    return jax.jit(run)


@pytest.fixture(scope="module")
def state(selfie):
    return weights(selfie)


def loss(method, params, extra, image, score, **recorded):
    draws = Draws.replay({"mask": score, **recorded})
    terms, aux = method.phases[0].fn(params, extra, {"image": image}, draws, 0, None)
    return losses.total(terms), aux


def test_1_equal_candidates_cost_the_logarithm_of_their_number(selfie, state):
    params, extra = state
    value, aux = loss(selfie, params, extra, jnp.full_like(IMAGE, 0.3), SCORE)
    np.testing.assert_allclose(value, np.log(4), rtol=1e-3)
    assert aux["choice_accuracy"].count == 5 * 4


def test_2_the_order_of_targets_moves_rows_and_columns_together(choose, state):
    """Falling scores of the targets turned around: the last become the first."""
    rank = np.argsort(np.argsort(SCORE, 1), 1)
    turned = np.where(rank >= 12, 12 + 15 - rank, rank) / 16
    one, other = (choose(*state, IMAGE, jnp.asarray(s, jnp.float32)) for s in (SCORE, turned))
    np.testing.assert_array_equal(one["hidden_ids"], other["hidden_ids"][:, ::-1])
    logits = np.asarray(other["logits"])[:, ::-1, ::-1]
    np.testing.assert_allclose(one["logits"], logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(one["chosen"], other["chosen"][:, ::-1])


def test_3_u_does_not_see_targets_nor_candidates_the_context(selfie, state):
    """With running statistics, by gradient."""
    params, extra = state

    def of(name):
        def total(image):
            draws = Draws.replay({"mask": SCORE})
            seen = selfie.predict["choose"](params, extra, {"image": image}, draws)
            if name == "pooled":
                return jnp.square(seen["pooled"]).sum(), seen["hidden_ids"]
            own = jnp.take_along_axis(seen["features"], seen["hidden_ids"][..., None], 1)
            return jnp.square(own).sum(), seen["visible_ids"]

        gradient, blind = jax.jit(jax.grad(total, has_aux=True))(IMAGE)
        cells = np.zeros((5, 16), bool)
        np.put_along_axis(cells, np.asarray(blind), True, 1)
        pixels = cells.reshape(5, 4, 4).repeat(2, 1).repeat(2, 2)
        assert (np.asarray(gradient)[pixels] == 0).all()
        assert (np.asarray(gradient)[~pixels] != 0).any()

    of("pooled")
    of("targets")


def test_4_context_is_a_set_of_patches_with_places(selfie, choose, state):
    params, extra = state
    seen = choose(params, extra, IMAGE, SCORE)
    features, ids = seen["features"], seen["visible_ids"]
    model = selfie.predict["encode"].__self__.model
    pooled = jax.jit(lambda f, i: model.apply({"params": params, **extra}, f, i, method="pooled"))
    np.testing.assert_allclose(pooled(features, ids), seen["pooled"], rtol=1e-5, atol=1e-5)
    swapped = ids.at[:, 0].set(ids[:, 1]).at[:, 1].set(ids[:, 0])
    np.testing.assert_allclose(pooled(features, swapped), seen["pooled"], rtol=1e-4, atol=1e-4)
    # Where place and content both count for something in the attention.
    features, rows = 20 * features, jnp.arange(5)
    base = pooled(features, ids)
    contents = features.at[rows, ids[:, 0]].set(features[rows, ids[:, 1]])
    contents = contents.at[rows, ids[:, 1]].set(features[rows, ids[:, 0]])
    assert (np.abs(pooled(contents, ids) - base).max(1) > 1e-3).all()


def test_5_targets_and_context_partition_the_grid(choose, state):
    seen = choose(*state, IMAGE, SCORE)
    ids = np.concatenate([seen["visible_ids"], seen["hidden_ids"]], 1)
    np.testing.assert_array_equal(np.sort(ids, 1), np.tile(np.arange(16), (5, 1)))
    assert seen["hidden_ids"].shape == (5, 4)
    largest = np.argsort(-np.asarray(SCORE), 1)[:, :4]
    np.testing.assert_array_equal(seen["hidden_ids"], largest)


def test_6_row_and_column_tables():
    method = build(positions="rows_columns")
    params, _ = weights(method)
    assert params["row_embed"].shape == params["col_embed"].shape == (4, 16)
    model = method.predict["encode"].__self__.model
    table = model.apply({"params": params}, method=lambda m: m.table).reshape(4, 4, 16)
    difference = np.asarray(table[:, 1:] - table[:, :-1])
    np.testing.assert_allclose(difference, np.broadcast_to(difference[:1], (4, 3, 16)), atol=1e-6)


def test_7_in_torchvisions_form_it_is_the_start_of_a_resnet():
    """The same stages, and the same names after the transfer."""
    net = PatchResNet(4, (2, 4), (1, 2), preact=False)
    whole = MaskedResNet((2, 4), (1, 2), 0, 4, style="sparse")
    patches = jnp.zeros((2, 4, 4, 3))
    own = jax.eval_shape(lambda: net.init(jax.random.key(0), patches, train=False))
    other = jax.eval_shape(lambda: whole.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3))))
    stages = lambda tree: {k: v for k, v in tree["params"].items() if "stage" in k}  # noqa: E731
    shapes = lambda tree: jax.tree.map(lambda x: x.shape, tree)  # noqa: E731
    assert shapes(stages(own)) == shapes(stages(other))
    rules = resnet.rules((1, 2), head="")
    filled = {name: tiny.filled(own[name]) for name in own}
    arrays = to_torch(filled, rules)
    assert {"conv1.weight", "bn1.running_var", "layer2.1.conv3.weight"} <= set(arrays)
    back = from_torch(arrays, rules, filled)
    for left, right in zip(jax.tree.leaves(filled), jax.tree.leaves(back), strict=True):
        np.testing.assert_array_equal(left, right)


def test_statistics_are_those_of_all_patches_and_move_by_a_tenth(selfie, state):
    params, extra = state
    _, aux = jax.jit(lambda p: loss(selfie, p, extra, IMAGE, SCORE))(params)
    moved = selfie.after_update(params, extra, aux, jnp.int32(0))
    assert jax.tree.structure(moved) == jax.tree.structure(extra)
    kernel = np.asarray(params["patch_net"]["stem"]["kernel"])
    patches = np.asarray(selfie.predict["encode"].__self__._patches(IMAGE)).reshape(-1, 2, 2, 3)
    padded = np.pad(patches, ((0, 0), (1, 1), (1, 1), (0, 0)))
    stem = sum(
        padded[:, r : r + 2, c : c + 2] @ kernel[r, c] for r in range(3) for c in range(3)
    ).reshape(-1, 4)
    at = ("patch_net", "stage1_0", "bn1")
    get = lambda tree, name: np.asarray(tree["batch_stats"][at[0]][at[1]][at[2]][name])  # noqa: E731
    expected = 0.9 * get(extra, "mean") + 0.1 * stem.mean(0)
    np.testing.assert_allclose(get(moved, "mean"), expected, rtol=1e-4, atol=1e-5)
    expected = 0.9 * get(extra, "var") + 0.1 * stem.var(0, ddof=1)
    np.testing.assert_allclose(get(moved, "var"), expected, rtol=1e-4, atol=1e-5)


def test_dropout_is_off_in_predictions_and_keeps_the_mean():
    method = build(dropout=0.5)
    params, extra = weights(method)
    noise = jnp.asarray(np.random.default_rng(5).uniform(size=(5, 1, 2, 13, 16)), jnp.float32)
    plain = loss(build(), params, extra, IMAGE, SCORE)[0]
    dropped = loss(method, params, extra, IMAGE, SCORE, dropout=noise)[0]
    kept = loss(method, params, extra, IMAGE, SCORE, dropout=jnp.full_like(noise, 0.99))[0]
    assert len({float(plain), float(dropped), float(kept)}) == 3
    # No draw is asked for that is not recorded.
    method.predict["choose"](params, extra, {"image": IMAGE}, Draws.replay({"mask": SCORE}))


def test_the_picture_shows_the_chosen_patches(selfie, choose, state):
    draws = Draws.replay({"mask": SCORE})
    found = selfie.predict["reconstruct"](*state, BATCH, draws)
    seen = choose(*state, BATCH["image"], SCORE)
    blocks = lambda image: np.asarray(image).reshape(5, 4, 2, 4, 2, 3).swapaxes(2, 3)  # noqa: E731
    pixels, original = (blocks(found[name]).reshape(5, 16, 12) for name in ("pixels", "original"))
    for row in range(5):
        for place, patch in zip(seen["hidden_ids"][row], seen["chosen"][row], strict=True):
            np.testing.assert_allclose(pixels[row, place], original[row, patch], atol=1e-6)
        visible = np.asarray(seen["visible_ids"][row])
        np.testing.assert_allclose(pixels[row, visible], original[row, visible], atol=1e-6)
        chosen = dict(zip(np.asarray(seen["hidden_ids"][row]), seen["chosen"][row], strict=True))
        expected = [chosen.get(place, place) == place for place in range(16)]
        np.testing.assert_array_equal(found["right"][row], expected)


ERRORS = {
    r"config\.model\.target_ratio = 0\.1: must make 2 or more": {"target_ratio": 0.1},
    r"config\.model\.u0 = 'ones': learned or zeros": {"u0": "ones"},
    r"config\.model\.pool\.heads = 3": {"pool": {"layers": 1, "heads": 3, "hidden": 4}},
    r"config\.model\.positions = 'none'": {"positions": "none"},
    r"config\.model\.net = .*one block count a width": {"net": {**NET, "blocks": (1,)}},
    r"config\.model\.dtype = 'int8'": {"dtype": "int8"},
}


@pytest.mark.parametrize("message", ERRORS)
def test_build_errors_name_the_config_path(message):
    with pytest.raises(UserError, match=message):
        build(**ERRORS[message])


@pytest.mark.parametrize(("patch", "preact"), [(8, True), (8, False), (32, True)])
def test_step_flops_agree_with_the_compiler(patch, preact):
    """It also counts elementwise work, and no products with the zeros around a patch."""
    net = {"stem": 16, "widths": (16, 32), "blocks": (1, 2), "expansion": 4}
    pool = {"layers": 1, "heads": 2, "hidden": 96}
    side = 2 * patch if patch == 32 else 4 * patch
    options = {"image_size": (side, side), "patch_size": patch, "net": net, "pool": pool}
    batch = tiny.batch(4, size=(side, side))
    options |= {"preact": preact, "target_ratio": 0.5}
    method = build_method("mim.selfie", {**MODEL, **options}, batch)
    params, extra = jax.eval_shape(method.init, jax.random.key(0), batch)

    def loss(params, extra):
        draws = Draws.keyed(jax.random.key(0), batch["position"])
        return losses.total(method.phases[0].fn(params, extra, batch, draws, 0, None)[0])

    counted = jax.jit(jax.grad(loss)).lower(params, extra).cost_analysis()["flops"]
    assert 0.95 * counted / 4 < method.step_flops < 1.05 * counted / 4
