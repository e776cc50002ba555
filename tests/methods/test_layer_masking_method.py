"""The classifier of layer masking: what is hidden does not count, by the ways that promise it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from maskjax import losses
from maskjax.errors import UserError
from maskjax.interop.paths import flatten
from maskjax.interop.shapes import param_shapes
from maskjax.masking import Draws
from maskjax.method import build_method
from maskjax.train.fill import exported, method_geometry

SIZES = {"image_size": (16, 16), "num_classes": 5}
NETS = {
    "resnet": {"resnet": {"stem": 6, "widths": (2, 3), "blocks": (1, 1), "expansion": 2}},
    "convnext": {
        "backbone": "convnext",
        "convnext": {"widths": (4, 8), "blocks": (1, 1), "patch": 4, "layer_scale": 0.5},
    },
    "vit": {
        "backbone": "vit",
        "patch_size": (4, 4),
        "encoder": {"dim": 16, "depth": 2, "heads": 2, "mlp_ratio": 2.0},
    },
}
BLIND = {"resnet": "layer", "convnext": "layer", "vit": "drop"}
IMAGES = jnp.asarray(tiny.images(3, (16, 16)), jnp.float32) / 64 - 2
VISIBLE = np.zeros((3, 16, 16), bool)
VISIBLE[0, :8, 4:12] = VISIBLE[1, 4:8] = VISIBLE[2] = True
BATCH = {"image": IMAGES, "label": np.asarray([0, 4, 2]), "position": tiny.positions(3)}


class Made:
    """The method with weights."""

    def __init__(self, name):
        self.name = name
        self.method = build_method("explain.layer_masking", {**SIZES, **NETS[name]}, BATCH)
        params, extra = jax.eval_shape(self.method.init, jax.random.key(0), BATCH)
        variance = lambda path, x: jnp.abs(x) + 0.5 if "var" in str(path[-1]) else x  # noqa: E731
        self.params = tiny.filled(params)
        self.extra = jax.tree_util.tree_map_with_path(variance, tiny.filled(extra, 1))
        self.compiled = {}

    def logits(self, style, images=IMAGES, visible=VISIBLE):
        key = f"classify/{style}" if style else "classify"

        def run(images, visible):
            batch = {"image": images, "visible": visible}
            fn = self.method.predict[key]
            return fn(self.params, self.extra, batch, Draws.replay({}))["logits"]

        self.compiled.setdefault(style, jax.jit(run))
        return np.asarray(self.compiled[style](images, visible))


@pytest.fixture(scope="module", params=NETS)
def made(request):
    return Made(request.param)


def test_hidden_pixels_reach_nothing(made):
    """Bit for bit; and with all of the image visible it is the plain network."""
    dirty = jnp.where(VISIBLE[..., None], IMAGES, 7.0)
    blind = BLIND[made.name]
    found, plain = made.logits(blind), made.logits("")
    np.testing.assert_array_equal(made.logits(blind, dirty), found)
    np.testing.assert_allclose(found[2], plain[2], rtol=1e-4, atol=1e-5)
    assert not np.isclose(found[:2], plain[:2]).all()
    # Pixels that are visible count.
    changed = jnp.where(VISIBLE[..., None], IMAGES + 0.5, IMAGES)
    assert not np.isclose(made.logits(blind, changed), found).all()


def test_painted_images_are_what_the_plain_network_sees(made):
    grey = jnp.where(VISIBLE[..., None], IMAGES, 0.0)
    np.testing.assert_allclose(made.logits("grey"), made.logits("", grey), rtol=1e-5, atol=1e-5)
    mean, std = (np.asarray(made.method.describe[key], np.float32) for key in ("mean", "std"))
    black = jnp.where(VISIBLE[..., None], IMAGES, -mean / std)
    np.testing.assert_allclose(made.logits("black"), made.logits("", black), rtol=1e-4, atol=1e-4)


def test_the_tree_is_the_one_that_weights_files_hold(made):
    params, extra = made.params, made.extra
    tree = flatten(exported(made.method, params, extra))
    assert {path: leaf.shape for path, leaf in tree.items()} == param_shapes(
        method_geometry(made.method)
    )


def test_training_is_plain_classification():
    made = Made("resnet")

    @jax.jit
    def loss(params):
        phase, draws = made.method.phases[0].fn, Draws.replay({})
        terms, aux = phase(params, made.extra, BATCH, draws, 0, None)
        return losses.total(terms), made.method.after_update(params, made.extra, aux, 0)

    value, after = loss(made.params)
    assert np.isfinite(value)
    moved = [
        a is not None and not np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(made.extra), strict=True)
    ]
    assert all(moved)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"num_classes": 1}, "model.num_classes = 1"),
        ({"backbone": "vgg"}, "one of resnet, convnext, vit"),
        ({"backbone": "vit", "patch_size": (8, 4)}, "must be square"),
    ],
)
def test_build_errors(changes, message):
    with pytest.raises(UserError, match=message):
        build_method("explain.layer_masking", {**SIZES, **changes}, BATCH)


def test_data_without_labels_is_refused():
    batch = {"image": IMAGES, "position": tiny.positions(3)}
    with pytest.raises(UserError, match="trains on image and label"):
        build_method("explain.layer_masking", SIZES, batch)
