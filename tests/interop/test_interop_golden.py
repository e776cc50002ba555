"""The official names of the golden files: everything is taken in, and comes out bit for bit."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from maskjax.interop import Geometry, from_torch, to_torch
from maskjax.interop.layouts import LAYOUTS
from maskjax.interop.shapes import param_tree

GOLDEN = Path(__file__).resolve().parents[2].parent / "shared" / "golden"
pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden vectors in {GOLDEN}")


def load(name):
    with np.load(GOLDEN / f"{name}.npz") as file:
        params = {k.removeprefix("param/"): file[k] for k in file.files if k.startswith("param/")}
        return json.loads(str(file["config"])), params, file


def official_geometry(config) -> Geometry:
    model = config["model"]
    return Geometry(
        image_size=(model["img_size"],) * 2,
        patch_size=model["patch_size"],
        channels=config["in_chans"],
        dim=model["embed_dim"],
        depth=model["depth"],
        heads=model["num_heads"],
        mlp_hidden=int(model["embed_dim"] * model["mlp_ratio"]),
        decoder_dim=model["decoder_embed_dim"],
        decoder_depth=model["decoder_depth"],
        decoder_heads=model["decoder_num_heads"],
        decoder_mlp_hidden=int(model["decoder_embed_dim"] * model["mlp_ratio"]),
    )


def check(arrays, layout, geometry):
    """Nothing missing, nothing unused, and the same bits back."""
    rules = LAYOUTS[layout](geometry)
    back = to_torch(from_torch(arrays, rules, param_tree(geometry)), rules)
    assert back.keys() == arrays.keys()
    for key, array in arrays.items():
        np.testing.assert_array_equal(back[key], array, err_msg=key, strict=True)


def test_official_pretraining_names():
    config, params, _ = load("mae")
    geometry = official_geometry(config)
    model = {k: v for k, v in params.items() if not k.startswith(("fc_norm.", "head."))}
    check(model, "mae", geometry)
    encoder = {k: v for k, v in model.items() if not k.startswith(("decoder_", "mask_token"))}
    check(encoder, "mae", geometry.encoder_only())
    check(encoder, "timm", geometry.encoder_only())


@pytest.mark.parametrize("pool", ["gap", "cls"])
@pytest.mark.parametrize("position", ["sincos", "learned"])
def test_official_classifier_names(pool, position):
    config, params, _ = load("mae")
    other = "norm." if pool == "gap" else "fc_norm."
    left_out = ("decoder_", "mask_token", other)
    arrays = {k: v for k, v in params.items() if not k.startswith(left_out)}
    geometry = replace(
        official_geometry(config).encoder_only(),
        pool=pool,
        position=position,
        num_classes=config["finetune"]["num_classes"],
    )
    check(arrays, "classify", geometry)
    check(arrays, "timm", geometry)


def hugging_face():
    with np.load(GOLDEN / "mae_hf.npz") as file:
        config = json.loads(str(file["config"]))["hf_config"]
        to_hub = json.loads(str(file["names/v5_to_hub_json"]))
    geometry = Geometry(
        image_size=(config["image_size"],) * 2,
        patch_size=config["patch_size"],
        channels=config["num_channels"],
        dim=config["hidden_size"],
        depth=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        mlp_hidden=config["intermediate_size"],
        decoder_dim=config["decoder_hidden_size"],
        decoder_depth=config["decoder_num_hidden_layers"],
        decoder_heads=config["decoder_num_attention_heads"],
        decoder_mlp_hidden=config["decoder_intermediate_size"],
    )
    return geometry, to_hub, load("mae_hf")[1]


def test_hugging_face_names():
    geometry, to_hub, params = hugging_face()
    check(params, "hf5", geometry)
    check({to_hub[key]: array for key, array in params.items()}, "hf", geometry)


def test_both_files_hold_the_same_model():
    geometry, _, params = hugging_face()
    config, official, _ = load("mae")
    assert official_geometry(config) == geometry
    tree = from_torch(params, LAYOUTS["hf5"](geometry), param_tree(geometry))
    for key, array in to_torch(tree, LAYOUTS["mae"](geometry)).items():
        np.testing.assert_array_equal(official[key], array, err_msg=key)
