"""The frozen teacher: what it sees of a student's images, no gradient, errors before a compile."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from maskjax import options
from maskjax.data.stats import IMAGENET
from maskjax.errors import UserError
from maskjax.nn.teachers import PIXELS
from maskjax.pretext.frozen_teacher import frozen_teacher

TINY = ("dim=24", "depth=3", "heads=3", "mlp_hidden=40", "patch_size=4")
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
TAPS = ("block/0", "block/1", "attention/-1")


def config(**teacher):
    model = {**options.IMAGE, **options.COMPUTE, "image_size": (16, 16), "patch_size": (4, 4)}
    model["mean"], model["std"] = IMAGENET
    group = {**options.TEACHER, "change": TINY, **teacher}
    return ConfigDict({**model, "teacher": group}, convert_dict=True)


def begun(**teacher):
    made = frozen_teacher(config(**teacher))
    return made, jax.jit(made.init)(jax.random.key(0))


def test_the_first_blocks_are_those_of_the_whole_teacher():
    whole, params = begun()
    part, fewer = begun(blocks=2)
    assert "norm" not in fewer["encoder"]
    assert fewer["encoder"]["blocks"]["norm1"]["scale"].shape[0] == 2
    encoder = {name: params["encoder"][name] for name in fewer["encoder"]}
    encoder["blocks"] = jax.tree.map(lambda leaf: leaf[:2], params["encoder"]["blocks"])
    _, seen = whole(params, IMAGES, taps=("block/1",))
    out, _ = part({"encoder": encoder}, IMAGES)
    np.testing.assert_allclose(out["tokens"], seen["block/1"][:, 1:], rtol=1e-5, atol=1e-5)


def test_some_patches_are_those_of_the_image():
    made, params = begun(blocks=1)
    ids = jnp.array([[3, 0, 7], [15, 2, 1]])
    out, _ = made(params, IMAGES, ids)
    other = np.array(IMAGES)
    hidden = np.ones((2, 16), bool)
    np.put_along_axis(hidden, np.asarray(ids), False, 1)
    other[hidden.reshape(2, 4, 4).repeat(4, 1).repeat(4, 2)] = 7
    np.testing.assert_array_equal(made(params, other, ids)[0]["tokens"], out["tokens"])


def test_no_gradient_reaches_the_teacher_or_its_input():
    made, params = begun()
    images = jnp.float32(IMAGES) / 100

    def total(params, images):
        out, seen = made(params, images, taps=TAPS)
        return out["tokens"].sum() + sum(leaf.sum() for leaf in seen.values())

    for leaf in jax.tree.leaves(jax.grad(total, (0, 1))(params, images)):
        assert (leaf == 0).all()


def test_clip_gets_the_pixels_of_clip_from_either_kind_of_batch():
    made, _ = begun(name="clip_b16", change=(*TINY, "projection=0"))
    mean, std = (np.float32(values) for values in PIXELS["clip"])
    expected = (IMAGES / np.float32(255) - mean) / std
    np.testing.assert_allclose(made.view(IMAGES), expected, atol=1e-5)
    own_mean, own_std = (np.float32(values) for values in IMAGENET)
    floats = (IMAGES / np.float32(255) - own_mean) / own_std
    np.testing.assert_allclose(made.view(floats), expected, atol=1e-5)
    plain, _ = begun()
    np.testing.assert_array_equal(plain.view(floats), floats)


def test_a_teacher_of_other_patches_sees_the_image_resized():
    change = (*TINY[:-1], "patch_size=2")
    made, params = begun(image_size=(8, 8), change=change)
    assert made.view(IMAGES).shape == (2, 8, 8, 3)
    constant = np.full_like(IMAGES, 77)
    np.testing.assert_allclose(
        made.view(constant)[:, :1, :1], made.view(constant)[:, -1:, -1:], rtol=1e-5
    )
    out, _ = made(params, IMAGES)
    assert out["tokens"].shape == (2, 16, 24)


def test_flops_count_the_blocks_that_run():
    made, part = (begun(blocks=blocks)[0] for blocks in (3, 1))
    patches, width = 2 * 16 * 48 * 24, 2 * 17 * 24 * (4 * 24 + 2 * 17 + 2 * 40)
    assert part.forward_flops(16) == patches + width
    assert made.forward_flops(16) == patches + 3 * width


ERRORS = {
    r"config\.model\.teacher\.change = .*model\.channels = 3, the teacher 1": {
        "change": (*TINY, "channels=1")
    },
    r"config\.model\.teacher\.image_size = \(32, 32\): gives a patch grid \(8, 8\)": {
        "image_size": (32, 32)
    },
    r"config\.model\.teacher\.mean = \(0\.5,\): needs 3 channels": {"mean": (0.5,)},
    r"config\.model\.teacher\.std = \(0, 1, 1\)": {"std": (0, 1, 1)},
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_name_the_config_path(message):
    with pytest.raises(UserError, match=message):
        frozen_teacher(config(**ERRORS[message]))
