"""MAE: what `build` refuses, from shapes alone (nothing is computed), and what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from maskjax.errors import UserError
from maskjax.method import build_method
from maskjax.methods.mim.mae import DEFAULTS
from maskjax.train.state import create_state
from maskjax.train.step import make_train_step

# Message -> what is changed in the model.
ERRORS = {
    r"config\.model\.mask_ratio = 1\.0: .*\[0, 1\)": {"mask_ratio": 1.0},
    r"config\.model\.mask_ratio = -0\.1": {"mask_ratio": -0.1},
    r"config\.model\.mask_ratio = 0\.97: .*none of 16 tokens": {"mask_ratio": 0.97},
    r"config\.model\.mask_ratio = '0\.5'": {"mask_ratio": "0.5"},
    r"config\.model\.mask_ratio = None": {"mask_ratio": None},
    r"config\.model\.patch_size = \(3, 3\): does not divide model\.image_size": {"patch_size": 3},
    r"config\.model\.patch_size = \(2, 3\)": {"patch_size": (2, 3)},
    r"config\.model\.patch_size = 2\.5: must be a positive int": {"patch_size": 2.5},
    r"config\.model\.patch_size = 0": {"patch_size": 0},
    r"config\.model\.patch_size = None": {"patch_size": None},
    r"config\.model\.image_size = \(8, 8, 8\)": {"image_size": (8, 8, 8)},
    r"model\.image_size.*\(16, 8, 3\): the data has .*\(8, 8, 3\)": {"image_size": (16, 8)},
    r"config\.model\.encoder\.heads = 3: must divide model\.encoder\.dim = 16": {
        "encoder": {"heads": 3, "dim": 16}
    },
    r"config\.model\.decoder\.heads = 5": {"decoder": {"heads": 5, "dim": 8}},
    r"config\.model\.decoder\.dim = 6: must be a multiple of 4": {"decoder": {"dim": 6}},
    r"config\.model\.encoder\.depth = 0": {"encoder": {"depth": 0}},
    r"config\.model\.encoder\.dim = '16'": {"encoder": {"dim": "16"}},
    r"config\.model\.encoder\.depth = 1\.5": {"encoder": {"depth": 1.5, "dim": 16, "heads": 2}},
    r"config\.model\.encoder = 5": {"encoder": 5},
    r"config\.model\.mean = .*needs 4 channels": {"channels": 4},
    r"config\.model\.channels = 0": {"channels": 0, "mean": (), "std": ()},
    r"config\.model\.mean = .*needs 3 channels": {"mean": (0.5,)},
    r"config\.model\.mean = 0\.5": {"mean": 0.5},
    r"config\.model\.std = .*needs 3 channels": {"std": (0.5, 0.5)},
    r"config\.model\.std = .*must be positive": {"std": (0.5, 0.0, 0.5)},
    r"model\.channels.*\(8, 8, 1\): the data has .*\(8, 8, 3\)": {
        "channels": 1,
        "mean": (0.5,),
        "std": (0.5,),
    },
    r"config\.model\.dtype = 'float16': float32 or bfloat16": {"dtype": "float16"},
    r"config\.model\.remat = 'some'": {"remat": "some"},
    r"config\.model\.attention = 'flash'": {"attention": "flash"},
    r"config\.model\.scan = 'yes'": {"scan": "yes"},
    r"config\.model\.patch does not exist; did you mean 'patch_size'\?": {"patch": 2},
    r"config\.model\.encoder\.dept does not exist; did you mean 'depth'\?": {
        "encoder": {"dept": 2}
    },
    r"config\.model\.xyzzy does not exist; keys: .*mask_ratio": {"xyzzy": 1},
}


@pytest.mark.parametrize("message", ERRORS)
def test_build_errors_name_the_config_path(message):
    abstract = jax.eval_shape(lambda: tiny.batch(2) | {"label": jnp.zeros(2, jnp.int32)})
    with pytest.raises(UserError, match=message):
        build_method("mim.mae", {**tiny.MODEL, **ERRORS[message]}, abstract)


def test_a_ratio_of_zero_encodes_but_does_not_train():
    batch = tiny.batch(2)
    method = build_method("mim.mae", {**tiny.MODEL, "mask_ratio": 0.0}, batch)
    optimizers = {"main": optax.sgd(0.1)}
    state = jax.eval_shape(lambda: create_state(method, optimizers, jax.random.key(0), batch))
    with pytest.raises(UserError, match=r"config\.model\.mask_ratio = 0.*nothing to predict"):
        make_train_step(method, optimizers).lower(state, batch)


def test_one_value_per_patch_cannot_be_normalised():
    model = {**tiny.MODEL, "patch_size": 1, "channels": 1, "mean": (0.5,), "std": (0.5,)}
    batch = tiny.batch(2, channels=1)
    with pytest.raises(UserError, match=r"config\.model\.norm_pix"):
        build_method("mim.mae", model, batch)
    build_method("mim.mae", {**model, "norm_pix": False}, batch)


def test_the_defaults_are_vit_b_of_the_paper():
    abstract = {"image": jax.ShapeDtypeStruct((1, 224, 224, 3), np.uint8)}
    method = build_method("mim.mae", {}, abstract)
    params, _ = jax.eval_shape(method.init, jax.random.key(0), abstract)
    count = sum(leaf.size for leaf in jax.tree.leaves(params["encoder"]))
    # timm's vit_base_patch16_224 without head has 85,798,656; its position table is 197 * 768.
    assert count == 85_798_656 - 197 * 768
    assert DEFAULTS["mask_ratio"] == 0.75


def test_layers_for_the_learning_rate_decay():
    layers = build_method("mim.mae", tiny.MODEL, tiny.batch(2)).layers
    depth = tiny.MODEL["encoder"]["depth"]
    assert layers("encoder/cls_token") == 0
    assert layers("encoder/patch_embed/kernel") == 0
    assert layers("encoder/pos_embed") == 0
    assert layers("encoder/blocks/attn/out/bias") == tuple(range(1, depth + 1))
    assert layers("encoder/norm/scale") == depth + 1
    assert layers("decoder/pred/kernel") == depth + 1


def test_the_description_carries_geometry_and_settings():
    model = {**tiny.MODEL, "mask_ratio": 0.5, "norm_pix": False}
    facts = build_method("mim.mae", model, tiny.batch(2)).describe
    assert facts["geometry"]["image_size"] == (8, 8)
    assert facts["geometry"]["dim"] == 16
    assert facts["geometry"]["decoder_mlp_hidden"] == 16
    assert facts["mask_ratio"] == 0.5
    assert facts["norm_pix"] is False
