"""MultiMAE: the invariants of its sheet, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from maskjax import losses
from maskjax.errors import UserError
from maskjax.masking import Draws
from maskjax.method import build_method
from maskjax.targets.depth import standardize_depth

MODEL = {**tiny.MODEL, "semseg_classes": 5, "semseg_stride": 2, "class_dim": 4, "num_visible": 12}
RNG = np.random.default_rng(0)
BATCH = {
    "rgb": tiny.images(3),
    "depth": RNG.random((3, 8, 8, 1), np.float32),
    "semseg": RNG.integers(0, 5, (3, 4, 4)).astype(np.uint8),
    "position": tiny.positions(3),
}
NAMES = ("rgb", "depth", "semseg")


def build(**model):
    return build_method("views.multimae", {**MODEL, **model}, BATCH)


def draws(num=3):
    return Draws.keyed(jax.random.key(0), tiny.positions(num))


@pytest.fixture(scope="module")
def multimae():
    return build()


@pytest.fixture(scope="module")
def params(multimae):
    return tiny.params(multimae, BATCH)


@pytest.fixture(scope="module")
def run(multimae, params):
    """batch -> (terms, activations)."""

    def both(batch):
        terms, _ = multimae.phases[0].fn(params, {}, batch, draws(), jnp.int32(0), None)
        return terms, multimae.predict["activations"](params, {}, batch, draws())

    return jax.jit(both)


def values_of(terms):
    return {task: float(losses.total({task: term})) for task, term in terms.items()}


def test_1_the_number_of_visible_tokens_is_exact(run):
    _, seen = run(BATCH)
    hidden = np.stack([seen[f"hidden/{name}"] for name in NAMES], 1)
    assert (hidden.sum((1, 2)) == 48 - 12).all()
    assert len({tuple(row) for row in hidden.sum(-1).tolist()}) > 1


def test_2_hidden_content_does_not_reach_predictions_nor_visible_targets_the_loss(run):
    terms, seen = run(BATCH)
    hidden = {name: np.asarray(seen[f"hidden/{name}"]) for name in NAMES}
    pixels = lambda mask, s: mask.reshape(3, 4, 4).repeat(s, 1).repeat(s, 2)  # noqa: E731
    other = {
        **BATCH,
        "rgb": np.where(pixels(hidden["rgb"], 2)[..., None], 255 - BATCH["rgb"], BATCH["rgb"]),
        "semseg": np.where(pixels(hidden["semseg"], 1), 4 - BATCH["semseg"], BATCH["semseg"]),
    }
    changed, found = run(other)
    for name in (key for key in seen if key.startswith("pred/")):
        np.testing.assert_array_equal(seen[name], found[name])
    old, new = values_of(terms), values_of(changed)
    assert old["depth"] == new["depth"]
    assert all(old[task] != new[task] for task in ("rgb", "norm_rgb", "semseg"))


def test_2_the_loss_is_over_hidden_patches(run):
    """An image weighs the same, however many of its patches are hidden."""
    terms, seen = run(BATCH)
    target = np.asarray(standardize_depth(jnp.asarray(BATCH["depth"])))
    patches = target.reshape(3, 4, 2, 4, 2).transpose(0, 1, 3, 2, 4).reshape(3, 16, 4)
    errors = np.abs(seen["pred/depth"] - patches).mean(-1)
    hidden = np.asarray(seen["hidden/depth"])
    expected = np.mean([errors[i][hidden[i]].mean() for i in range(3)])
    assert values_of(terms)["depth"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("alpha", "low", "high"), [(1e5, 4, 4), (1e-3, 0, 12)])
def test_3_alpha_shares_out_evenly_or_to_one_modality(alpha, low, high):
    method = build(alpha=alpha)
    params = tiny.params(method, BATCH)
    seen = jax.jit(lambda b: method.predict["activations"](params, {}, b, draws()))(BATCH)
    visible = np.stack([16 - np.asarray(seen[f"hidden/{name}"]).sum(1) for name in NAMES], 1)
    assert (visible.max(1) == high).all() and (visible.min(1) == low).all()


def test_4_an_image_that_hides_nothing_counts_for_nothing():
    errors = jnp.asarray(RNG.random((3, 16), np.float32))
    hidden = jnp.asarray(RNG.random((3, 16)) < 0.5)
    total = lambda h: float(losses.total({"x": losses.hidden_mean(errors, h)}))  # noqa: E731
    two = float(losses.total({"x": losses.hidden_mean(errors[1:], hidden[1:])}))
    assert total(hidden.at[0].set(False)) == pytest.approx(two, rel=1e-6)
    assert total(jnp.zeros_like(hidden)) == 0


def test_6_a_modality_that_is_not_there_is_one_that_is_hidden(multimae, params):
    encode = multimae.predict["encode"]
    some = {name: BATCH[name] for name in ("rgb", "semseg")}
    found = jax.jit(lambda b: encode(params, {}, b, draws()))(some)
    assert found["tokens"].shape == (3, 32, 16)
    every = jax.jit(lambda b: encode(params, {}, b, draws()))(BATCH)
    assert every["tokens"].shape == (3, 48, 16)
    changed = {**some, "depth": BATCH["depth"][::-1]}
    again = jax.jit(lambda b: encode(params, {}, b, draws()))(changed)
    assert np.abs(every["tokens"][:, :16] - again["tokens"][:, :16]).max() > 1e-4


@pytest.mark.parametrize(("scale", "offset"), [(3.0, 1.0), (0.5, -2.0)])
def test_7_depth_of_any_scale_and_offset_is_the_same(scale, offset):
    depth = jnp.asarray(BATCH["depth"]) * 10
    plain, other = standardize_depth(depth), standardize_depth(scale * depth + offset)
    np.testing.assert_allclose(plain, other, atol=1e-3)


def test_the_middle_of_the_depths_decides():
    depth = np.arange(100, dtype=np.float32).reshape(1, 10, 10, 1)
    found = np.asarray(standardize_depth(jnp.asarray(depth)))
    middle = np.arange(10, 90)
    expected = (depth - middle.mean()) / middle.std(ddof=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_what_was_not_measured_neither_counts_nor_is_predicted():
    depth = np.array(BATCH["depth"])
    depth[:, :3] = 0
    found = np.asarray(standardize_depth(jnp.asarray(depth), holes=True))
    assert (found[:, :3] == 0).all()
    known = np.sort(depth[0, 3:].ravel())
    middle = known[int(0.1 * len(known)) : int(0.9 * len(known))]
    expected = (depth[0, 3:] - middle.mean()) / middle.std(ddof=1)
    np.testing.assert_allclose(found[0, 3:], expected, rtol=1e-3, atol=1e-4)

    method = build(depth_holes=True)
    params = tiny.params(method, BATCH)
    loss = jax.jit(
        lambda b: method.phases[0].fn(params, {}, b, draws(), jnp.int32(0), None)[0]["depth"]
    )
    assert float(loss({**BATCH, "depth": np.zeros_like(depth)}).weight) == 0
    assert float(loss({**BATCH, "depth": depth}).weight) == 3


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"num_visible": 48}, "config.model.num_visible"),
        ({"modalities": ("depth", "semseg")}, "config.model.modalities"),
        ({"modalities": ("rgb", "normals")}, "config.model.modalities"),
        ({"semseg_stride": 3}, "config.model.semseg_stride"),
        ({"semseg_stride": 1}, "semseg/1"),
        ({"alpha": 0.0}, "config.model.alpha"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(model, message):
    with pytest.raises(UserError, match=message):
        build(**model)


def test_data_without_a_modality_is_refused():
    with pytest.raises(UserError, match="trains on rgb and depth and semseg"):
        build_method("views.multimae", MODEL, {"rgb": BATCH["rgb"]})
