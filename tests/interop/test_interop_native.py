"""Methods that no other library knows: files of our own names, and parts that are dropped."""

import jax
import numpy as np
import pytest
from test_interop_tables import assert_same

from maskjax import build
from maskjax.config import load_config
from maskjax.errors import UserError
from maskjax.interop import Geometry, export_weights, files, import_weights
from maskjax.interop.native import export_native
from maskjax.interop.paths import flatten
from maskjax.train.fill import method_geometry


def experiment(name, *overrides):
    config, _ = load_config(f"mim/{name}:tiny", [f"--config.{word}" for word in overrides])
    return build.experiment(config, 1000)


def params_of(parts):
    draw = np.random.default_rng(0).normal
    shapes = parts.abstract_state.params
    return jax.tree.map(lambda leaf: np.float32(draw(0, 0.2, leaf.shape)), shapes)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_a_method_without_a_layout_starts_from_its_own_file(suffix, tmp_path):
    parts, path = experiment("crate_mae"), tmp_path / f"w{suffix}"
    params = params_of(parts)
    with pytest.raises(UserError, match="format 'native' keeps its own names"):
        method_geometry(parts.method)
    shown = export_native(params, {"method": "mim.crate_mae"}, path)
    assert shown.startswith(f"{path}: {len(flatten(params))} arrays")
    begun = experiment("crate_mae", f"init_from={path}")
    begun.check_init()
    assert_same(jax.device_get(begun.start().params), params)
    assert files.read(path)[1]["method"] == "mim.crate_mae"


def test_what_does_not_fit_a_native_file(tmp_path):
    parts, path = experiment("crate_mae"), tmp_path / "w.npz"
    params = params_of(parts)
    lost = params.pop("mask_token")
    export_native({**params, "token": lost}, {}, path)
    with pytest.raises(UserError) as error:
        experiment("crate_mae", f"init_from={path}").check_init()
    message = str(error.value)
    assert message.startswith("config.init_from: ") and "(layout native)" in message
    assert "missing: mask_token" in message and "unused: token" in message
    allowed = ("init_missing=('mask_token',)", "init_unused=('token',)")
    experiment("crate_mae", f"init_from={path}", *allowed).check_init()
    with pytest.raises(UserError, match="give the tree to fill"):
        import_weights(path)


def test_parts_that_only_a_method_knows_are_dropped_and_named(tmp_path):
    parts, path = experiment("hpm"), tmp_path / "w.safetensors"
    params = params_of(parts)
    geometry = Geometry(**parts.method.describe["geometry"])
    report = export_weights(params, geometry, {}, "mae", path)
    assert any(line.startswith("losspred/ (") for line in report.dropped)
    again, _ = import_weights(path)
    assert_same(again, {name: params[name] for name in ("encoder", "decoder")})
