"""CroCo: the invariants of its sheet, in both versions, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax import losses
from maskjax.errors import UserError
from maskjax.masking import Draws
from maskjax.method import build_method
from maskjax.nn.decoder_block import DecoderBlock
from maskjax.nn.rotary import grid_positions, rotary_table, rotate

BATCH = {**tiny.batch(2), "other": tiny.images(2, seed=9)}
MODEL = {**tiny.MODEL, "mask_ratio": 0.8}
BOTH = pytest.mark.parametrize("rotary", [0, 100])
FLOATS = {name: jnp.asarray(BATCH[name], jnp.float32) / 255 for name in ("image", "other")}


def build(**model):
    return build_method("views.croco", {**MODEL, **model}, BATCH)


def draws():
    return Draws.keyed(jax.random.key(0), BATCH["position"])


def seen_of(method, params, views, name="activations"):
    return jax.jit(lambda v: method.predict[name](params, {}, v, draws()))(views)


def hidden_pixels(hidden):
    cells = np.asarray(hidden).reshape(-1, 4, 4)
    return cells.repeat(2, 1).repeat(2, 2)[..., None]


@BOTH
def test_1_the_prediction_sees_the_other_view_and_nothing_that_is_hidden(rotary):
    method = build(rotary=rotary)
    params = tiny.params(method, BATCH)
    hidden = hidden_pixels(seen_of(method, params, FLOATS)["hidden"])

    def prediction(views):
        seen = method.predict["activations"](params, {}, views, draws())
        return (seen["prediction"] * jnp.cos(jnp.arange(12))).sum()

    gradient = jax.jit(jax.grad(prediction))(FLOATS)
    assert np.all(np.where(hidden, gradient["image"], 0) == 0)
    assert np.any(np.where(hidden, 0, gradient["image"]) != 0)
    assert np.any(gradient["other"] != 0)


def test_2_the_loss_has_gradients_to_the_other_view_and_no_target_that_is_visible():
    method = build(norm_pix=False)
    params = tiny.params(method, BATCH)
    seen = seen_of(method, params, FLOATS, "reconstruct")

    def loss(views):
        terms, _ = method.phases[0].fn(params, {}, views, draws(), jnp.int32(0), None)
        return losses.total(terms)

    value, gradient = jax.jit(jax.value_and_grad(loss))(FLOATS)
    assert np.any(gradient["other"] != 0)
    errors = np.square(seen["prediction"] - seen["target"]).mean(-1)
    assert float(value) == pytest.approx(errors[np.asarray(seen["hidden"])].mean(), rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(-9, 9), columns=st.integers(-9, 9), seed=st.integers(0, 99))
def test_3_and_7_rotary_logits_know_differences_only_and_rotation_keeps_lengths(
    rows, columns, seed
):
    rng = np.random.default_rng(seed)
    query, key = rng.normal(size=(2, 1, 2, 12, 8)).astype(np.float32)
    positions = grid_positions((3, 4))
    tables = [rotary_table(p, 8, 100) for p in (positions, positions + np.array([rows, columns]))]
    logits = [
        np.einsum("bhqd,bhkd->bhqk", rotate(query, table), rotate(key, table)) for table in tables
    ]
    np.testing.assert_allclose(logits[0], logits[1], atol=1e-4)
    pairs = lambda x: np.square(np.asarray(x).reshape(*x.shape[:-1], 2, 2, 2)).sum(-2)  # noqa: E731
    np.testing.assert_allclose(pairs(rotate(query, tables[1])), pairs(query), rtol=1e-4, atol=1e-5)


def test_rotary_turns_rows_in_the_first_half_and_columns_in_the_second():
    table = rotary_table(np.array([[3, 0], [0, 3]]), 8, 100)
    assert np.all(table[0, 0, :4] != 1) and np.all(table[0, 0, 4:] == 1)
    assert np.all(table[1, 0, :4] == 1) and np.all(table[1, 0, 4:] != 1)
    np.testing.assert_allclose(table[0, 1, :4], np.sin([3, 0.3, 3, 0.3]), rtol=1e-6)


@BOTH
def test_4_the_mask_token_plays_no_part_where_nothing_is_hidden(rotary):
    method = build(rotary=rotary)
    params = tiny.params(method, BATCH)
    decoder = {**params["decoder"], "mask_token": params["decoder"]["mask_token"] + 5}
    other = {**params, "decoder": decoder}
    run = jax.jit(lambda p: method.predict["decode"](p, {}, FLOATS, draws())["tokens"])
    hidden = jax.jit(lambda p: method.predict["activations"](p, {}, FLOATS, draws())["prediction"])
    np.testing.assert_array_equal(run(params), run(other))
    assert np.any(hidden(params) != hidden(other))


def test_5_the_order_of_the_second_views_tokens_does_not_matter():
    """Attention over the memory does not know places: only positions tell them apart."""
    method = build()
    params = tiny.params(method, BATCH)
    seen = seen_of(method, params, FLOATS, "decode")
    mirrored = {**FLOATS, "other": FLOATS["other"][:, ::-1]}
    assert np.any(seen_of(method, params, mirrored, "decode")["tokens"] != seen["tokens"])

    rng = np.random.default_rng(0)
    x, memory = (rng.normal(size=(1, 5, 16)).astype(np.float32) for _ in range(2))
    table = rotary_table(grid_positions((1, 5)), 8, 100)
    block, order = DecoderBlock(2, 32), np.array([3, 1, 4, 0, 2])
    variables = block.init(jax.random.key(0), x, None, None, memory, table, table)
    plain, _ = block.apply(variables, x, None, None, memory, table, table)
    shuffled, _ = block.apply(variables, x, None, None, memory[:, order], table, table[order])
    np.testing.assert_allclose(plain, shuffled, atol=1e-5)


@pytest.mark.parametrize(("ratio", "hidden"), [(0.9, 14), (0.5, 8), (0.0, 0)])
def test_6_the_number_of_hidden_patches_is_the_whole_part(ratio, hidden):
    method = build(mask_ratio=ratio)
    seen = seen_of(method, tiny.params(method, BATCH), FLOATS)
    assert (seen["hidden"].sum(1) == hidden).all()
    assert seen["visible"].shape[1] == 16 - hidden


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"mask_ratio": 1.0}, "config.model.mask_ratio"),
        ({"rotary": -1}, "config.model.rotary"),
        ({"rotary": 100, "encoder": {"dim": 12, "heads": 2}}, "config.model.encoder.heads"),
        ({"patch_size": (2, 4)}, "config.model.patch_size"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(model, message):
    with pytest.raises(UserError, match=message):
        build(**model)


def test_data_of_single_images_is_refused():
    with pytest.raises(UserError, match="trains on image and other"):
        build_method("views.croco", MODEL, {"image": BATCH["image"]})
