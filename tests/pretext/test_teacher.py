"""Frozen teachers: what they see, how far they run, and what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from ml_collections import ConfigDict

from maskjax import options
from maskjax.errors import UserError
from maskjax.nn.position import bicubic
from maskjax.nn.teachers import CLIP_PIXELS
from maskjax.pretext import teacher as teachers
from maskjax.targets import pixels

SMALL = ("dim=16", "depth=3", "heads=2", "mlp_hidden=24", "patch_size=2")
IMAGE = tiny.images(4)


def teacher(grid=(4, 4), seen=(), **group):
    values = {**options.TEACHER, "change": SMALL, "image_size": seen, **group}
    cfg = {**options.IMAGE, **options.COMPUTE, "image_size": (8, 8), "teacher": values}
    return teachers.teacher(ConfigDict(cfg), "teacher", grid)


@pytest.fixture(scope="module")
def params():
    return tiny.filled(jax.eval_shape(teacher().init, jax.random.key(0)))


def test_its_first_blocks_are_those_of_the_whole_and_cost_no_more(params):
    whole, patches = teacher(), teacher().patches(IMAGE)
    run = lambda blocks, tap: jax.jit(  # noqa: E731
        lambda p: whole(p, patches, taps=(tap,), blocks=blocks)[1][tap]
    )
    part = run(2, "block/-1")
    np.testing.assert_allclose(run(0, "block/1")(params), part(params), rtol=1e-5, atol=1e-6)

    def cost(blocks):
        run = jax.jit(lambda p: whole(p, patches, taps=("block/-1",), blocks=blocks)[1])
        return run.lower(params).compile().cost_analysis()["flops"]

    # A block of three and the final norm less.
    assert cost(2) < 0.8 * cost(0)
    assert whole.flops(blocks=2) < 0.8 * whole.flops()


def test_it_wants_its_own_pixels():
    same, clip = teacher(), teacher(name="clip_b16")
    # CLIP's projection has no bias, but pixels are the same thing.
    found = np.asarray(clip.patches(IMAGE)).reshape(4, 16, 4, 3)
    raw = np.asarray(same.patches(IMAGE)).reshape(4, 16, 4, 3)
    unit = raw * options.IMAGE["std"] + options.IMAGE["mean"]
    np.testing.assert_allclose(found, (unit - CLIP_PIXELS[0]) / CLIP_PIXELS[1], atol=1e-5)
    standardized = pixels.standardize(IMAGE, options.IMAGE["mean"], options.IMAGE["std"])
    np.testing.assert_allclose(clip.patches(standardized).reshape(found.shape), found, atol=1e-5)
    named = teacher(mean=(0.0,) * 3, std=(1.0,) * 3)
    np.testing.assert_allclose(named.patches(IMAGE).reshape(unit.shape), unit, atol=1e-5)


def test_other_sizes_are_resized_and_constant_images_stay_constant():
    big = teacher((6, 6), seen=(12, 12))
    found = np.asarray(big.patches(np.full((1, 8, 8, 3), 100, np.uint8))).reshape(36, 4, 3)
    assert np.ptp(found, axis=(0, 1)).max() < 1e-5
    ramp = np.tile(np.arange(8, dtype=np.float32)[:, None, None], (1, 1, 8, 3))
    grown = np.asarray(bicubic(jnp.asarray(ramp), (16, 8)))[0, :, 0, 0]
    assert (np.diff(grown) > 0).all()
    np.testing.assert_allclose(grown.mean(), 3.5, atol=1e-5)


def test_no_gradient_reaches_it_and_saliency_is_its_last_attention(params):
    one = teacher()
    patches = one.patches(IMAGE)

    def total(params):
        out, seen = one(params, patches, taps=("attention/-1",))
        return out["tokens"].sum() + one.saliency(seen).sum(), (seen, one.saliency(seen))

    gradient, (seen, saliency) = jax.jit(jax.grad(total, has_aux=True))(params)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient))
    expected = np.asarray(seen["attention/-1"])[:, :, 0, 1:].mean(1)
    np.testing.assert_allclose(saliency, expected, rtol=1e-6)


def test_pick_takes_patches_by_id_and_the_class_token():
    one = teacher(change=(*SMALL, "position=learned", "dist_token=true"))
    tokens = jnp.arange(2 * 18, dtype=jnp.float32).reshape(2, 18, 1)
    ids = jnp.array([[3, 0], [15, 1]])
    np.testing.assert_array_equal(one.pick(tokens, ids)[..., 0], [[5, 2], [35, 21]])
    np.testing.assert_array_equal(
        one.pick(tokens, ids, cls=True)[..., 0], [[0, 5, 2], [18, 35, 21]]
    )
    assert one.pick(tokens, None).shape == (2, 16, 1)


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        (r"config\.model\.teacher\.image_size = \(8, 8\): gives it \(4, 4\)", {"grid": (2, 2)}),
        (r"config\.model\.teacher\.mean = \(0\.5,\): needs 3", {"mean": (0.5,), "std": (1.0,)}),
        (r"config\.model\.teacher\.change", {"change": (*SMALL, "channels=1")}),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(message, changes):
    with pytest.raises(UserError, match=message):
        teacher(**changes)
