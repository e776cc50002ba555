"""Teachers and starting weights from files, into a state that was born sharded.

This module is also the method that the tests train: a student that has nothing but a teacher.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runs

from maskjax import build, options
from maskjax.config import default_config
from maskjax.errors import UserError
from maskjax.interop import Geometry, export_weights, to_torch
from maskjax.interop.files import write
from maskjax.interop.layouts import LAYOUTS
from maskjax.interop.shapes import param_tree
from maskjax.losses import Term
from maskjax.method import Method, Phase
from maskjax.nn.teacher_vit import TeacherViT, to_patches
from maskjax.nn.teachers import teacher_geometry, teacher_names
from maskjax.train.leaves import by_name

DEFAULTS = {"image_size": (16, 16), "channels": 3, "teacher": options.TEACHER}


def build_method(cfg, example, schedule):
    """A method as of DESIGN: it names its teacher and never reads a file."""
    teacher = TeacherViT(options.teacher_geometry(cfg.teacher, "model.teacher", cfg.image_size))

    def features(extra, batch):
        patches = to_patches(jnp.float32(batch["image"]), teacher.geometry)
        return teacher.apply({"params": extra["teacher"]}, patches, taps=("block/-1",))[1]

    def init(key, batch):
        patches = to_patches(jnp.float32(batch["image"]), teacher.geometry)
        return {"w": jnp.ones(())}, {"teacher": teacher.init(key, patches)["params"]}

    def loss(params, extra, batch, draws, step, static):
        target = jax.lax.stop_gradient(features(extra, batch)["block/-1"])
        return {"fit": Term(jnp.square(params["w"] - target).sum(), target.size)}, {}

    load = {"extra/teacher": "model.teacher"}
    predict = {"teacher": lambda params, extra, batch, draws: features(extra, batch)}
    return Method(init, (Phase(loss),), predict, load=load)


globals()["build"], experiment = build_method, build.experiment

TINY = ("dim=24", "depth=3", "heads=3", "mlp_hidden=40", "patch_size=4")
GEOMETRY = teacher_geometry("mae_b16", (*TINY, "image_size=[16, 16]"))


def config(image_size=(16, 16), **teacher):
    made = default_config("test_fill")
    made.model.image_size = image_size
    made.data.global_batch, made.train.steps, made.optim.lr = 8, 1, 1e-3
    made.model.teacher.update({"change": TINY, **teacher})
    return made


def begun(image_size=(16, 16), **teacher):
    return experiment(config(image_size, **teacher), 100)


def random_params(geometry, seed=0):
    draw = np.random.default_rng(seed).normal
    shapes = param_tree(geometry)
    return jax.tree.map(lambda leaf: draw(0, 0.2, leaf.shape).astype(np.float32), shapes)


def assert_are(tree, expected):
    found, expected = by_name(tree), by_name(expected)
    assert found.keys() == expected.keys()
    for name, leaf in found.items():
        np.testing.assert_array_equal(np.asarray(leaf), expected[name], err_msg=name)


@pytest.mark.parametrize("format", ["mae", "timm", "hf", "hf_vit"])
def test_a_teacher_of_any_layout(format, tmp_path):
    params, path = random_params(GEOMETRY), tmp_path / "w.safetensors"
    export_weights(params, GEOMETRY, {}, format, path)
    made = begun(file=str(path))
    made.check_init()
    state = made.start()
    assert_are(state.extra["teacher"], params)
    wanted = jax.tree.map(lambda leaf: leaf.sharding, made.abstract_state.extra)
    assert jax.tree.map(lambda leaf: leaf.sharding, state.extra) == wanted
    assert int(state.step) == 0


def test_the_decoder_of_a_file_is_left_out(tmp_path):
    decoder = {"decoder_dim": 16, "decoder_depth": 1, "decoder_heads": 2, "decoder_mlp_hidden": 8}
    whole = dataclasses.replace(GEOMETRY, **decoder)
    params = random_params(whole)
    export_weights(params, whole, {}, "mae", tmp_path / "w.safetensors")
    state = begun(file=str(tmp_path / "w.safetensors")).start()
    assert_are(state.extra["teacher"], {"encoder": params["encoder"]})


@pytest.mark.parametrize("metadata", [True, False])
def test_the_first_blocks_of_a_teacher(metadata, tmp_path):
    params, path = random_params(GEOMETRY), tmp_path / "w.safetensors"
    if metadata:
        export_weights(params, GEOMETRY, {}, "mae", path)
    else:
        write(path, to_torch(params, LAYOUTS["mae"](GEOMETRY)), {})
    made = begun(file=str(path), blocks=2)
    made.check_init()
    encoder = made.start().extra["teacher"]["encoder"]
    assert "norm" not in encoder
    assert_are(encoder["blocks"], jax.tree.map(lambda leaf: leaf[:2], params["encoder"]["blocks"]))


def test_clip_with_positions_of_another_grid(tmp_path):
    options_ = ("patch_bias=false", "pre_norm=true", "position=learned", "projection=5")
    geometry = teacher_geometry("", (*TINY, *options_, "image_size=[24, 24]"))
    params, path = random_params(geometry), tmp_path / "clip.safetensors"
    export_weights(params, geometry, {}, "clip", path)
    made = begun(file=str(path), format="clip", change=(*TINY, *options_))
    made.check_init()
    teacher = made.start().extra["teacher"]
    assert teacher["encoder"]["pos_embed"].shape == (17, 24)
    assert_are(teacher["encoder"]["pre_norm"], params["encoder"]["pre_norm"])


@pytest.mark.slow
def test_a_run_as_teacher(tmp_path):
    """The encoder of an MAE run of this package, without an export in between."""
    folder = tmp_path / "run"
    assert runs.train(folder) == 0
    stored, _ = runs.saved_state(folder)
    encoder = {
        k.removeprefix("params/"): v for k, v in stored.items() if "params/encoder" in k[:15]
    }
    model = runs.read_config(folder).model
    sizes = {k: model.encoder[k] for k in ("dim", "depth", "heads")}
    sizes |= {
        "channels": model.channels,
        "patch_size": model.patch_size[0],
        "image_size": list(model.image_size),
    }
    sizes["mlp_hidden"] = int(sizes["dim"] * model.encoder.mlp_ratio)
    change = tuple(f"{key}={value}" for key, value in sizes.items())
    made = config(model.image_size, file=str(folder), change=change)
    made.model.channels = model.channels
    assert_are(experiment(made, 100).start().extra["teacher"], encoder)
    made.model.teacher.blocks = 1
    part = experiment(made, 100).start().extra["teacher"]["encoder"]
    assert "norm" not in part and sizes["depth"] > 1
    for name, leaf in by_name(part["blocks"]).items():
        np.testing.assert_array_equal(leaf, encoder[f"encoder/blocks/{name}"][:1])
    made.model.teacher.change = (*change, f"heads={2 * sizes['heads']}")
    with pytest.raises(UserError, match=rf"teacher\.file: (.|\n)*heads: {sizes['heads']}, "):
        experiment(made, 100).start()


def test_untrained_and_without_a_file():
    assert_are(begun(file="random").start(), by_name(begun(file="random").init()))
    with pytest.raises(UserError, match=r"config\.model\.teacher\.file is empty: name the teacher"):
        begun().check_init()


def test_what_does_not_fit_is_named(tmp_path):
    path = tmp_path / "w.safetensors"
    export_weights(random_params(GEOMETRY), GEOMETRY, {}, "mae", path)
    for changes, words in (
        ({"change": (*TINY, "heads=6")}, r"config\.model\.teacher\.file: (.|\n)*heads: 3, 6"),
        ({"format": "hf"}, "It looks like layout mae"),
        ({"format": "jax"}, "unknown format 'jax'"),
    ):
        with pytest.raises(UserError, match=words):
            begun(file=str(path), **changes).check_init()
    for changes, words in (
        (
            {"name": "clip_b64"},
            r"config\.model\.teacher: no teacher 'clip_b64'; did you mean 'clip",
        ),
        ({"change": ("width=3",)}, "'width=3' changes no geometry"),
        ({"blocks": 4}, r"model\.teacher\.blocks = 4: the teacher has 3"),
    ):
        with pytest.raises(UserError, match=words):
            begun(file="random", **changes)
    with pytest.raises(UserError, match="multiples of the teacher's patch size 4"):
        begun((10, 12), file="random")


@pytest.mark.parametrize("name", teacher_names())
def test_published_sizes_are_possible(name):
    geometry = teacher_geometry(name)
    assert isinstance(geometry, Geometry) and geometry.dim % geometry.heads == 0
