"""The frozen encoder: its tree is that of its geometry, its options do what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskjax.interop.paths import flatten
from maskjax.interop.shapes import param_shapes
from maskjax.nn.geometry import Geometry
from maskjax.nn.teacher_vit import TeacherViT, to_patches
from maskjax.nn.vit import Compute, Encoder, Size

BASE = {
    "image_size": (8, 12),
    "patch_size": 4,
    "channels": 3,
    "dim": 24,
    "depth": 2,
    "heads": 3,
    "mlp_hidden": 40,
}
CASES = {
    "mae": {},
    "dinov2": {
        "position": "learned",
        "registers": 2,
        "layer_scale": True,
        "mask_token": True,
        "mlp": "swiglu",
    },
    "clip": {
        "position": "learned",
        "pre_norm": True,
        "patch_bias": False,
        "activation": "quick_gelu",
        "projection": 5,
    },
    "simmim": {
        "position": "none",
        "relative": "shared",
        "qkv_bias": "query_value",
        "mask_token": True,
    },
    "cae": {"position": "sincos_rows", "qkv_bias": "query_value", "layer_scale": True},
    "beit": {"position": "none", "relative": "layer", "pool": "gap", "num_classes": 3},
    "videomae": {"position": "sinusoid", "cls": False, "frames": 4, "tubelet": 2},
    "deit": {"position": "learned", "dist_token": True, "pool": "cls", "num_classes": 2},
    "timm": {"position": "learned", "registers": 1, "prefix_positions": False},
}
every = pytest.mark.parametrize("name", CASES)


def example(name: str, **compute):
    geometry = Geometry(**BASE, **CASES[name])
    frames = (geometry.frames,) if geometry.frames else ()
    images = jax.random.normal(jax.random.key(0), (2, *frames, 8, 12, 3))
    return geometry, TeacherViT(geometry, Compute(**compute)), to_patches(images, geometry)


def random_params(model, patches):
    shapes = jax.eval_shape(model.init, jax.random.key(0), patches)["params"]
    draw = np.random.default_rng(0).normal
    return jax.tree.map(lambda leaf: jnp.float32(draw(0, 0.3, leaf.shape)), shapes)


@every
def test_the_tree_is_that_of_the_geometry(name):
    geometry, model, patches = example(name)
    init = jax.eval_shape(model.init, jax.random.key(0), patches)["params"]
    assert {k: leaf.shape for k, leaf in flatten(init).items()} == param_shapes(geometry)


@pytest.mark.parametrize("name", ["dinov2", "simmim", "beit"])
def test_scanned_and_unrolled_are_the_same_and_every_parameter_matters(name):
    _, model, patches = example(name)
    _, unrolled, _ = example(name, scan=False)
    params = random_params(model, patches)
    hidden = jnp.zeros(patches.shape[:2], bool).at[:, 0].set("mask_token" in params["encoder"])
    hidden = hidden if "mask_token" in params["encoder"] else None

    def total(model, params):
        out, _ = model.apply({"params": params}, patches, hidden=hidden)
        return sum((value**2).sum() for value in out.values())

    value, gradient = jax.jit(jax.value_and_grad(lambda p: total(model, p)))(params)
    np.testing.assert_allclose(value, jax.jit(lambda p: total(unrolled, p))(params), rtol=1e-5)
    zero = [path for path, leaf in flatten(gradient).items() if not np.abs(leaf).max() > 0]
    # A key bias moves all scores of a query alike, which softmax does not see.
    assert [path for path in zero if not path.endswith("key/bias")] == []


def test_with_default_options_it_is_the_encoder_of_mae():
    geometry, model, patches = example("mae")
    params = random_params(model, patches)
    encoder = Encoder(Size(24, 2, 3, 40 / 24), geometry.grid, patches.shape[-1])
    ids = jnp.asarray([[4, 0, 2], [1, 5, 3]])
    visible = jnp.take_along_axis(patches, ids[..., None], 1)
    out, seen = model.apply({"params": params}, visible, ids, taps=("block", "attention/-1"))
    taps = ("block", "attention/-1")
    latent, expected = encoder.apply({"params": params["encoder"]}, visible, ids, taps=taps)
    np.testing.assert_allclose(out["tokens"], latent[:, 1:], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(out["cls"], latent[:, 0], rtol=1e-5, atol=1e-5)
    for tap in taps:
        np.testing.assert_allclose(seen[tap], expected[tap], rtol=1e-5, atol=1e-5)


def test_hidden_patches_do_not_reach_the_tokens():
    _, model, patches = example("simmim")
    params = random_params(model, patches)
    hidden = jnp.asarray([[1, 0, 0, 1, 0, 0]] * 2, bool)
    apply = lambda x: model.apply({"params": params}, x, hidden=hidden)[0]["tokens"]  # noqa: E731
    changed = jnp.where(hidden[..., None], patches + 3, patches)
    np.testing.assert_array_equal(apply(changed), apply(patches))


def test_order_does_not_matter_to_absolute_positions():
    _, model, patches = example("deit")
    params = random_params(model, patches)
    whole, _ = model.apply({"params": params}, patches)
    ids = jnp.asarray([[5, 3, 1, 0, 2, 4]] * 2)
    shuffled = jnp.take_along_axis(patches, ids[..., None], 1)
    out, _ = model.apply({"params": params}, shuffled, ids)
    np.testing.assert_allclose(out["logits"], whole["logits"], rtol=1e-5, atol=1e-5)


def test_bfloat16_is_near():
    _, model, patches = example("dinov2")
    _, rounded, _ = example("dinov2", dtype=jnp.bfloat16)
    params = random_params(model, patches)
    whole, near = (each.apply({"params": params}, patches)[0] for each in (model, rounded))
    assert near["tokens"].dtype == jnp.float32
    spread = whole["tokens"].std()
    assert jnp.abs(near["tokens"] - whole["tokens"]).max() < 0.2 * spread
    assert jnp.abs(near["tokens"] - whole["tokens"]).max() > 1e-4 * spread


def test_what_cannot_be_is_refused():
    _, model, patches = example("beit")
    params = random_params(model, patches)
    with pytest.raises(ValueError, match="raster order"):
        model.apply({"params": params}, patches, jnp.zeros(patches.shape[:2], jnp.int32))
    with pytest.raises(ValueError, match="mask token"):
        model.apply({"params": params}, patches, hidden=jnp.zeros(patches.shape[:2], bool))


def test_tubes_are_listed_by_frame_row_column_channel():
    geometry = Geometry(**BASE, **CASES["videomae"])
    clip = jnp.arange(4 * 8 * 12 * 3.0).reshape(1, 4, 8, 12, 3)
    tubes = to_patches(clip, geometry)
    assert tubes.shape == (1, geometry.num_patches, geometry.patch_values)
    second = clip[0, 2:4, 0:4, 4:8].reshape(-1)
    np.testing.assert_array_equal(tubes[0, 6 + 1], second)
