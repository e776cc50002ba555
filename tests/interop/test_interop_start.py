"""Fine-tuning from runs and files: `config.init_from` of a classifier."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny

from maskjax import build
from maskjax.config import load_config
from maskjax.errors import UserError
from maskjax.interop import export_weights, import_weights, to_torch
from maskjax.interop.files import write
from maskjax.interop.layouts import LAYOUTS, swin
from maskjax.interop.native import export_native
from maskjax.interop.paths import flatten, unflatten
from maskjax.interop.shapes import param_tree
from maskjax.nn.families import geometry_from
from maskjax.nn.geometry import Geometry
from maskjax.nn.position import resize_table, sincos_2d
from maskjax.nn.relative import resize_relative
from maskjax.saved import write_run
from maskjax.train import fill

SIZE = {"dim": 8, "depth": 2, "heads": 2, "mlp_ratio": 2.0}
TABLES = ("model.position=none", "model.relative=layer", "model.qkv_bias=query_value")
SIMMIM = (*TABLES, "model.layer_scale=0.1")


def experiment(config, *overrides):
    made, _ = load_config(config, [f"--config.{override}" for override in overrides])
    if "encoder" in made.model:
        made.model.encoder = SIZE
    return build.experiment(made, 100)


def filled(tree, seed=0):
    return jax.device_get(tiny.filled(tree, seed))


def random_state(parts, seed):
    """The state of an experiment with random parameters, without running its `init`."""
    zeros = lambda leaf: jax.device_put(np.zeros(leaf.shape, leaf.dtype), leaf.sharding)  # noqa: E731
    state = jax.tree.map(zeros, parts.abstract_state)
    params = filled(parts.abstract_state.params, seed)
    placed = jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), params, state.params)
    return dataclasses.replace(state, params=placed), flatten(params)


def classifier(source, *overrides, variant="tiny"):
    """The parameters a classifier starts with, and those it had before."""
    parts = experiment(f"supervised/classify:{variant}", f"init_from={source}", *overrides)
    parts.check_init()
    state, initial = random_state(parts, seed=1)
    started = fill.fill(state, parts.method, parts.config, build.geometry_of_run)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, parts.abstract_state)
    assert jax.tree.map(lambda leaf: leaf.sharding, started) == shardings
    return flatten(jax.device_get(started.params)), initial


def random_run(folder, config, *overrides):
    """A run with random parameters, and the same flat."""
    parts = experiment(config, *overrides)
    state, params = random_state(parts, seed=0)
    write_run(folder, parts, state, {})
    return params, geometry_from(parts.method.describe["geometry"])


GEOMETRY = {
    "image_size": (8, 8),
    "patch_size": 2,
    "channels": 1,
    "dim": 8,
    "depth": 2,
    "heads": 2,
    "mlp_hidden": 16,
}


def assert_encoder(found, source, *, but=()):
    """Every leaf of the encoder is the source's, but for some."""
    names = [name for name in found if name.startswith("encoder/") and name not in but]
    assert len(names) >= 10
    for name in names:
        np.testing.assert_array_equal(found[name], source[name], err_msg=name)


def assert_new(found, initial, *names):
    for name in names:
        np.testing.assert_array_equal(found[name], initial[name], err_msg=name)


def test_an_mae_run(tmp_path):
    source, geometry = random_run(tmp_path / "run", "mim/mae:tiny")
    found, initial = classifier(tmp_path / "run")
    assert_encoder(found, source, but=("encoder/pos_embed",))
    table = sincos_2d(geometry.grid, geometry.dim, cls=True)
    np.testing.assert_array_equal(found["encoder/pos_embed"], table)
    assert_new(found, initial, "fc_norm/scale", "head/kernel", "head/bias")
    assert "encoder/norm/scale" not in found


def test_an_mae_run_at_another_resolution_with_its_final_norm(tmp_path):
    source, geometry = random_run(tmp_path / "run", "mim/mae:tiny")
    found, _ = classifier(tmp_path / "run", "model.pool=cls", "model.image_size=(12, 8)")
    np.testing.assert_array_equal(found["encoder/norm/scale"], source["encoder/norm/scale"])
    table = resize_table(sincos_2d(geometry.grid, geometry.dim, cls=True), geometry.grid, (6, 4))
    np.testing.assert_allclose(found["encoder/pos_embed"], table, atol=1e-6)


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("format", ["mae", "timm", "hf", "hf_vit"])
def test_files_of_an_mae(format, header, tmp_path):
    geometry = Geometry(**GEOMETRY)
    params, path = filled(param_tree(geometry)), tmp_path / "w.safetensors"
    if header:
        export_weights(params, geometry, {}, format, path)
    else:
        write(path, to_torch(params, LAYOUTS[format](geometry)), {})
    found, initial = classifier(path)
    assert_encoder(found, flatten(params), but=("encoder/pos_embed",))
    table = sincos_2d(geometry.grid, geometry.dim, cls=True)
    np.testing.assert_allclose(found["encoder/pos_embed"], table, atol=1e-6)
    assert_new(found, initial, "fc_norm/scale", "head/kernel")


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("classes", [10, 7])
def test_a_fine_tuned_file_gives_its_head_where_it_fits(classes, header, tmp_path):
    facts = {"position": "learned", "pool": "gap", "num_classes": classes}
    geometry = Geometry(**GEOMETRY, **facts)
    params, path = filled(param_tree(geometry)), tmp_path / "w.safetensors"
    if header:
        export_weights(params, geometry, {}, "mae", path)
    else:
        write(path, to_torch(params, LAYOUTS["classify"](geometry)), {})
    found, initial = classifier(path)
    source = flatten(params)
    assert_encoder(found, source)
    np.testing.assert_array_equal(found["fc_norm/scale"], source["fc_norm/scale"])
    expected = source if classes == 10 else initial
    np.testing.assert_array_equal(found["head/kernel"], expected["head/kernel"])


def test_a_run_of_a_classifier_with_other_classes(tmp_path):
    source, _ = random_run(tmp_path / "run", "supervised/classify:tiny")
    found, initial = classifier(tmp_path / "run", "model.num_classes=12")
    assert_encoder(found, source)
    np.testing.assert_array_equal(found["fc_norm/bias"], source["fc_norm/bias"])
    assert_new(found, initial, "head/kernel", "head/bias")


@pytest.mark.parametrize("kind", ["run", "header", "bare"])
def test_simmim_gives_each_block_a_copy_of_the_table(kind, tmp_path):
    source, geometry = random_run(tmp_path / "run", "mim/simmim:tiny")
    where = tmp_path / "run"
    if kind != "run":
        where = tmp_path / "w.safetensors"
        tree = jax.tree.map(np.asarray, unflatten(source))
        if kind == "header":
            export_weights(tree, geometry, {}, "simmim", where)
        else:
            write(where, to_torch(tree, LAYOUTS["pretraining"](geometry)), {})
    found, _ = classifier(where, *SIMMIM)
    assert_encoder(found, source, but=("encoder/blocks/relative",))
    for table in found["encoder/blocks/relative"]:
        np.testing.assert_array_equal(table, source["encoder/relative"])


@pytest.mark.parametrize("kind", ["run", "bare"])
def test_a_swin_with_other_windows(kind, tmp_path):
    config = "mim/simmim:tiny_swin"
    source, _ = random_run(tmp_path / "run", config, "model.image_size=(16, 16)")
    where = tmp_path / "run"
    if kind == "bare":
        where = tmp_path / "w.safetensors"
        write(where, to_torch(unflatten(source), swin.rules((2, 2), 2, 1)), {})
    options = ("model.image_size=(16, 16)", "model.swin.window=4")
    found, _ = classifier(where, *options, variant="tiny_swin")
    tables = [f"encoder/stage{s}/blocks/relative" for s in (0, 1)]
    assert_encoder(found, source, but=tables)
    for name in tables:
        resized = [resize_relative(table, (2, 2), (4, 4)) for table in source[name]]
        np.testing.assert_array_equal(found[name], resized)


SMALL = {
    "resnet": {"stem": 8, "widths": (8, 16), "blocks": (1, 1), "expansion": 2},
    "convnext": {"widths": (8, 16), "blocks": (1, 1), "patch": 4, "layer_scale": 0.1},
}


def convnet(config, kind, *overrides):
    made, _ = load_config(
        config,
        [
            f"--config.{o}"
            for o in ("model.image_size=(32, 32)", "model.patch_size=(8, 8)", *overrides)
        ],
    )
    made.model.backbone = kind
    made.model[kind].update(SMALL[kind])
    if kind == "resnet":
        made.model.resnet.stem_stride, made.model.resnet.stem_pool = 2, True
    return made


@pytest.mark.parametrize("where", ["run", "file"])
@pytest.mark.parametrize("kind", ["resnet", "convnext"])
def test_convnets_of_spark_with_their_statistics(kind, where, tmp_path):
    parts = build.experiment(convnet("mim/spark:tiny", kind), 100)
    state, source = random_state(parts, seed=0)
    extra = filled(state.extra, seed=2)
    extra = jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), extra, state.extra)
    state, path = dataclasses.replace(state, extra=extra), tmp_path / "run"
    write_run(path, parts, state, {})
    if where == "file":
        path = tmp_path / "w.safetensors"
        tree = jax.device_get(fill.exported(parts.method, state.params, state.extra))
        geometry, keep = fill.method_geometry(parts.method), ("params", "batch_stats")
        tree = {name: tree[name] for name in keep if name in tree}
        export_weights(tree, geometry, {}, kind, path)
    pool = {"resnet": "mean", "convnext": "gap"}[kind]
    made = convnet(
        f"supervised/classify:tiny_{kind}", kind, f"model.pool={pool}", f"init_from={path}"
    )
    parts = build.experiment(made, 100)
    parts.check_init()
    begun, initial = random_state(parts, seed=1)
    started = fill.fill(begun, parts.method, parts.config, build.geometry_of_run)
    found = flatten(jax.device_get(started.params))
    assert_encoder(found, source)
    assert_new(found, initial, "head/kernel")
    if kind == "resnet":
        statistics = flatten(jax.device_get(started.extra))
        expected = flatten(jax.device_get(extra))
        assert statistics
        for name, leaf in statistics.items():
            np.testing.assert_array_equal(leaf, expected[name], err_msg=name)


@pytest.mark.parametrize(
    "variant, options, formats",
    [
        ("tiny", (), ("mae", "timm")),
        ("tiny", ("model.pool=cls",), ("timm", "hf_vit")),
        ("tiny", SIMMIM, ("beit", "hf_beit")),
        ("tiny_swin", (), ("swin", "timm_swin", "hf_swin")),
    ],
)
def test_a_classifier_goes_out_with_its_head_and_comes_back(variant, options, formats, tmp_path):
    parts = experiment(f"supervised/classify:{variant}", *options)
    state, params = random_state(parts, seed=0)
    geometry = fill.method_geometry(parts.method)
    for format in formats:
        path = tmp_path / f"{format}.safetensors"
        report = export_weights(jax.device_get(state.params), geometry, {}, format, path)
        assert not report.dropped, report
        back, _ = import_weights(path)
        found = flatten(back)
        assert found.keys() == params.keys() and "head/kernel" in found
        for name, leaf in params.items():
            np.testing.assert_array_equal(found[name], leaf, err_msg=name)


def test_another_encoder_is_refused_by_field(tmp_path):
    random_run(tmp_path / "run", "mim/mae:tiny")
    with pytest.raises(UserError, match=r"config\.init_from: (.|\n)*patch_size: 2, 4"):
        classifier(tmp_path / "run", "model.patch_size=(4, 4)")
    with pytest.raises(UserError, match=r"position: sincos, none"):
        classifier(tmp_path / "run", "model.position=none")


def test_parts_that_may_be_missing_are_named_in_the_config(tmp_path):
    """CAE's fine-tuning adds tables of relative biases that pretraining has not."""
    random_run(tmp_path / "run", "mim/mae:tiny")
    options = ("model.position=sincos", "model.relative=layer")
    with pytest.raises(UserError, match="encoder/blocks/relative: missing"):
        classifier(tmp_path / "run", *options)
    found, initial = classifier(
        tmp_path / "run", *options, "init_missing=('encoder/blocks/relative',)"
    )
    assert_new(found, initial, "encoder/blocks/relative")


def test_our_own_names_need_no_geometry(tmp_path):
    source, _ = random_run(tmp_path / "run", "supervised/classify:tiny")
    export_native(unflatten(source), {}, tmp_path / "w.safetensors")
    found, _ = classifier(tmp_path / "w.safetensors")
    for name, leaf in found.items():
        np.testing.assert_array_equal(leaf, source[name], err_msg=name)
