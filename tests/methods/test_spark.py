"""SparK: holes stay holes, nothing leaks out of them, statistics, weights of the backbone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from adapters import spark as adapter

import maskjax
from maskjax import losses
from maskjax.errors import UserError
from maskjax.interop import export_weights, files, import_weights
from maskjax.interop.convert import from_torch, to_torch
from maskjax.interop.layouts import spark as layout
from maskjax.interop.native import export_native
from maskjax.masking import Draws
from maskjax.method import build_method
from maskjax.nn.densify import UpConv
from maskjax.train import fill
from maskjax.train.fill import exported, method_geometry
from maskjax.train.state import TrainState

SMALL = {
    "image_size": (32, 16),
    "patch_size": (8, 8),
    "mask_ratio": 0.6,
    "drop_path": 0.0,
    "decoder_width": 16,
}
NETS = {
    "resnet": {
        "resnet": {"stem": 6, "widths": (2, 3), "blocks": (1, 2), "expansion": 4},
    },
    "convnext": {
        "backbone": "convnext",
        "convnext": {"widths": (6, 16), "blocks": (2, 1), "patch": 4, "layer_scale": 0.5},
    },
}
BATCH = {
    "image": jnp.asarray(tiny.images(3, (32, 16)), jnp.float32) / 64 - 2,
    "position": tiny.positions(3),
}
NOISE = jnp.asarray(np.random.default_rng(0).uniform(size=(3, 8)), jnp.float32)


class Made:
    """The method with weights, and its predictions compiled once."""

    def __init__(self, name, **changes):
        self.config = {**SMALL, **NETS[name], **changes}
        self.method = build_method("mim.spark", self.config, BATCH)
        params, extra = jax.eval_shape(self.method.init, jax.random.key(0), BATCH)
        self.params = tiny.filled(params)
        variance = lambda path, x: jnp.abs(x) + 0.5 if "var" in str(path[-1]) else x  # noqa: E731
        self.extra = jax.tree_util.tree_map_with_path(variance, tiny.filled(extra, 1))
        self.seen = jax.jit(self.predict("activations"))
        self.tree = jax.device_get(exported(self.method, self.params, self.extra))

    def predict(self, name):
        def run(image, noise=NOISE):
            draws, batch = Draws.replay({"mask": noise}), {"image": image}
            return self.method.predict[name](self.params, self.extra, batch, draws)

        return run

    def loss(self, params, image, noise=NOISE, **more):
        draws = Draws.replay({"mask": noise, **more})
        batch = {"image": image}
        terms, aux = self.method.phases[0].fn(params, self.extra, batch, draws, 0, None)
        return losses.total(terms), aux


@pytest.fixture(scope="module", params=NETS)
def made(request):
    return Made(request.param)


@pytest.fixture(scope="module")
def resnet():
    return Made("resnet")


def pixels_of(hidden):
    """bool[B, N] -> bool[B, H, W]."""
    return np.asarray(hidden).reshape(-1, 4, 2).repeat(8, 1).repeat(8, 2)


def test_1_7_maps_are_0_where_cells_are_hidden(made):
    seen = made.seen(BATCH["image"])
    hidden = np.asarray(seen["hidden"])
    assert (hidden.sum(1) == 8 - round(8 * 0.4)).all()
    for number, stride in enumerate((4, 8)):
        x = np.asarray(seen[f"map/{number}"])
        there = pixels_of(hidden)[:, ::stride, ::stride]
        assert not x[there].any() and x[~there].any()
        assert np.asarray(seen[f"dense/{1 - number}"])[there].any()


def test_2_hidden_pixels_are_targets_and_nothing_else(made):
    image, hidden = BATCH["image"], None
    before = made.seen(image)
    hidden = pixels_of(before["hidden"])[..., None]
    after = made.seen(jnp.where(hidden, jnp.sin(9 * image), image))
    for name in before:
        same = np.array_equal(before[name], after[name])
        assert same == (name != "loss"), name
    slope = jax.grad(lambda image: jnp.square(made.seen(image)["image"]).sum())(image)
    assert not np.asarray(slope)[np.broadcast_to(hidden, slope.shape)].any()
    assert np.asarray(slope).any()


def test_3_with_nothing_hidden_it_is_the_plain_network(made):
    whole = build_method("mim.spark", {**made.config, "mask_ratio": 0.0}, BATCH)

    @jax.jit
    def run(image):
        draws, batch = Draws.replay({"mask": NOISE}), {"image": image}
        names = ("activations", "encode")
        return [whole.predict[n](made.params, made.extra, batch, draws) for n in names]

    seen, features = run(BATCH["image"])
    last = np.asarray(seen["map/1"])
    tokens = last.reshape(3, 8, -1)
    np.testing.assert_allclose(features["tokens"], tokens, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(features["mean"], tokens.mean(1), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(seen["loss"], 0)


def test_6_targets_do_not_change_with_contrast_and_brightness(resnet):
    run = jax.jit(resnet.predict("reconstruct"))
    before, after = run(BATCH["image"]), run(3 * BATCH["image"] + 0.5)
    np.testing.assert_allclose(after["target"], before["target"], atol=1e-3)


def test_running_statistics_count_visible_positions_only(resnet):
    @jax.jit
    def after(image):
        _, aux = resnet.loss(resnet.params, image)
        return resnet.method.after_update(resnet.params, resnet.extra, aux, 0)

    image, hidden = BATCH["image"], pixels_of(resnet.seen(BATCH["image"])["hidden"])[..., None]
    found, other = after(image), after(jnp.where(hidden, 7.0, image))
    jax.tree.map(np.testing.assert_array_equal, found, other)
    old, new = (x["batch_stats"]["encoder"]["stem"]["bn"]["mean"] for x in (resnet.extra, found))
    assert not np.isclose(old, new).any()


def test_dropped_branches(resnet):
    """With every branch of the later blocks dropped the shortcut is left, holes are holes."""
    dropping = Made("resnet", drop_path=0.9)
    image = BATCH["image"]
    keep, drop = (jnp.full((3, 3), value, jnp.float32) for value in (0.95, 0.0))
    run = jax.jit(lambda noise: dropping.loss(dropping.params, image, drop_path=noise)[0])
    assert not np.isclose(run(keep), run(drop))


def test_the_transposed_convolution_is_the_gradient_of_a_convolution():
    x = jnp.asarray(np.random.default_rng(1).normal(size=(1, 3, 2, 2)), jnp.float32)
    layer = UpConv(3)
    variables = layer.init(jax.random.key(1), x)
    kernel = variables["params"]["kernel"][::-1, ::-1].transpose(0, 1, 3, 2)

    def down(y):
        options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
        return jax.lax.conv_general_dilated(y, kernel, (2, 2), ((1, 1), (1, 1)), **options)

    _, back = jax.vjp(down, jnp.zeros((1, 6, 4, 3)))
    np.testing.assert_allclose(layer.apply(variables, x), back(x)[0], rtol=1e-5, atol=1e-5)


def test_8_the_backbone_leaves_under_the_names_of_the_plain_network(made, tmp_path):
    geometry, out = method_geometry(made.method), tmp_path / "backbone.safetensors"
    stats = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    report = export_weights(made.tree, geometry, stats, geometry.FAMILY, out, "encoder")
    dropped = {line.split("/")[0] for line in report.dropped}
    assert {"light_decoder", "densified"} <= dropped
    predict, params, _ = maskjax.load(out)
    expected = jax.jit(made.predict("encode"))(BATCH["image"])
    found = predict["encode"](params, BATCH["image"])
    np.testing.assert_allclose(found["tokens"], expected["tokens"], rtol=1e-4, atol=1e-5)


def test_official_files_both_ways(made, tmp_path):
    rules = adapter.rules_of(made.method, made.config)
    arrays = to_torch(made.tree, rules)
    width = arrays["mask_tokens.0"].shape[1]
    # Of a ConvNeXt of 16 channels nothing is projected to 16.
    assert ("densify_projs.0.weight" in arrays) == (width != 16)
    again = from_torch(arrays, rules, made.tree, allow_unused=layout.UNUSED)
    jax.tree.map(np.testing.assert_array_equal, again, made.tree)
    path, geometry = tmp_path / "official.npz", method_geometry(made.method)
    files.write(path, {**arrays, "norm_black": np.zeros(1, np.float32)}, {})
    found, _ = import_weights(path, geometry=geometry, encoder_only=True)
    jax.tree.map(np.testing.assert_array_equal, found["params"], made.tree["params"])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"patch_size": (4, 4)}, r"model.patch_size = \(4, 4\): must be the stride 8"),
        ({"image_size": (30, 16)}, "model.image_size"),
        ({"mask_ratio": 0.99}, "must leave 1 or more of the 8 cells visible"),
        ({"mask_ratio": 1.0}, r"must be a number in \[0, 1\)"),
        ({"decoder_width": 20}, "model.decoder_width = 20: must be a multiple of the stride 8"),
        ({"backbone": "vgg"}, "model.backbone = 'vgg': resnet or convnext"),
        ({"resnet": {"widths": (2, 3, 4), "blocks": (1, 1)}}, "model.resnet.blocks"),
        ({"resnet": {"widths": (2,), "blocks": (0,)}}, "model.resnet.blocks"),
        ({"drop_path": 1.0}, "model.drop_path"),
        ({"remat": "dots"}, "model.remat = 'dots': none or full"),
    ],
)
def test_build_errors(changes, message):
    config = {**SMALL, **NETS["resnet"], **changes}
    with pytest.raises(UserError, match=message):
        build_method("mim.spark", config, BATCH)


def test_stages_whose_first_map_is_not_halved_are_refused():
    net = {"stem": 4, "widths": (2, 2), "blocks": (1, 1), "stem_stride": 1, "stem_pool": False}
    with pytest.raises(UserError, match="its first map of stride 2"):
        build_method("mim.spark", {**SMALL, "patch_size": (2, 2), "resnet": net}, BATCH)


def test_depth_ids_of_published_networks():
    """ConvNeXt: 14 groups, 3 blocks of the third stage each; ResNet-50: 8 (official code)."""
    image = {"image": jax.ShapeDtypeStruct((2, 224, 224, 3), np.uint8)}
    names = {"convnext": ("stage3_26", "stage4_0", 12), "resnet": ("stage3_5", "stage4_0", 6)}
    for backbone, (end, last, number) in names.items():
        layers = build_method("mim.spark", {"backbone": backbone}, image).layers
        assert [layers(f"encoder/{x}/bias") for x in ("stem", "stage1_0", "down2")] == [0, 1, 2]
        assert layers("encoder/stage3_0/scale") == 3
        assert layers(f"encoder/{end}/scale") == number - 1
        assert layers(f"encoder/{last}/scale") == number
        assert layers("decoder/up0/up/kernel") == number + 1


def test_a_state_is_filled_by_files_of_all_parts_or_of_the_backbone(made, tmp_path):
    """As `config.init_from` and `maskjax import` do; what a backbone lacks has to be allowed."""
    zeros = lambda tree: jax.tree.map(jnp.zeros_like, tree)  # noqa: E731
    empty = TrainState(jnp.int32(0), zeros(made.params), {}, zeros(made.extra))
    geometry, files_of = method_geometry(made.method), {}
    for name in ("native", "backbone"):
        files_of[name] = tmp_path / f"{name}.safetensors"
    export_native(made.tree, {}, files_of["native"])
    export_weights(made.tree, geometry, {}, geometry.FAMILY, files_of["backbone"])

    def filled(name, missing=()):
        order = (fill.whole(made.method), "init_from", str(files_of[name]), "", geometry)
        state = fill.put(empty, [fill.Order(*order, missing)])
        return jax.device_get((state.params, state.extra))

    jax.tree.map(np.testing.assert_array_equal, filled("native"), (made.params, made.extra))
    with pytest.raises(UserError, match="light_decoder"):
        filled("backbone")
    params, extra = filled("backbone", ("densified*", "light_decoder*"))
    jax.tree.map(np.testing.assert_array_equal, params["encoder"], made.params["encoder"])
    stats = "encoder" in made.extra["batch_stats"]
    if stats:
        old, new = (tree["batch_stats"]["encoder"] for tree in (made.extra, extra))
        jax.tree.map(np.testing.assert_array_equal, new, old)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(params["decoder"]))
