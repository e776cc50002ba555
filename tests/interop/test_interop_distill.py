"""Official names of DMAE and MaskAlign, both ways; their files as a start of fine-tuning."""

import jax
import numpy as np
import pytest
import tiny

from maskjax import build
from maskjax.config import load_config
from maskjax.interop import Geometry, to_torch
from maskjax.interop.convert import from_torch
from maskjax.interop.files import write
from maskjax.interop.layouts import dmae, maskalign
from maskjax.interop.paths import flatten

DMAE_HEADS = {"linear": 2, "mlp": 4, "none": 0}
MASKALIGN_HEADS = {"linear": 2, "norm_linear": 4, "mlp": 4, "mlp_norm": 6}


def begun(name, *overrides):
    config, _ = load_config(f"{name}:tiny", [f"--config.{word}" for word in overrides])
    return build.experiment(config, 1000)


def values(parts):
    return tiny.filled(parts.abstract_state.params)


def official(params, rules):
    arrays = to_torch(params, rules)
    again = flatten(from_torch(arrays, rules, params))
    assert again.keys() == flatten(params).keys()
    for name, leaf in flatten(params).items():
        np.testing.assert_array_equal(again[name], leaf, err_msg=name)
    return arrays


def geometry_of(parts):
    return Geometry(**parts.method.describe["geometry"])


@pytest.mark.parametrize("head", DMAE_HEADS)
def test_dmae_round_trip(head):
    overrides = () if head != "none" else ("model.encoder.dim=48", "model.encoder.heads=4")
    parts = begun("distill/dmae", f"model.head={head}", *overrides)
    arrays = official(values(parts), dmae.rules(geometry_of(parts), head))
    heads = {key: a.shape for key, a in arrays.items() if key.startswith(dmae.PREFIX)}
    assert len(heads) == DMAE_HEADS[head]
    if head == "linear":
        assert heads[f"{dmae.PREFIX}.0.weight"] == (48, 32)


@pytest.mark.parametrize("head", MASKALIGN_HEADS)
def test_maskalign_round_trip(head):
    parts = begun("distill/maskalign", f"model.head={head}")
    arrays = official(values(parts), maskalign.rules(geometry_of(parts), head, "sum"))
    heads = [key for key in arrays if key.startswith("distill_heads.2.")]
    assert len(heads) == MASKALIGN_HEADS[head]
    assert arrays["distill_weights"].shape == (3, 2)
    assert "decoder_pred.weight" not in arrays


@pytest.mark.parametrize("name", ["dmae", "maskalign"])
def test_fine_tuning_starts_from_the_official_file(name, tmp_path):
    parts, path = begun(f"distill/{name}"), tmp_path / f"{name}.safetensors"
    params = values(parts)
    rules = {"dmae": dmae.rules, "maskalign": maskalign.rules}[name](geometry_of(parts))
    arrays = to_torch(params, rules)
    if name == "maskalign":
        arrays["clip_model.vision_model.post_layernorm.weight"] = np.zeros(3, np.float32)
    write(path, arrays, {})
    encoder = begun("supervised/classify", f"init_from={path}").start().params["encoder"]
    for leaf in ("blocks/mlp/fc1/kernel", "patch_embed/kernel", "cls_token"):
        found = flatten(jax.device_get(encoder))[leaf]
        np.testing.assert_array_equal(found, flatten(params)[f"encoder/{leaf}"])
