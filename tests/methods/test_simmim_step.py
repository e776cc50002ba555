"""What SimMIM's step compiles to on a mesh: nothing but gradients travels, windows stay at home."""

import jax
import numpy as np
import optax
import pytest
import tiny
from hlo import collectives, count, result_shapes

from maskjax.method import build_method
from maskjax.train.sharding import batch_sharding, make_mesh, param_shardings
from maskjax.train.state import TrainState
from maskjax.train.step import Shardings, make_train_step

OPTIMIZER = optax.sgd(1e-3)
SIZES = {"image_size": (8, 8), "patch_size": 1, "mask_cell": 2}
BACKBONES = {
    "vit": {"encoder": {"dim": 16, "depth": 1, "heads": 2, "mlp_ratio": 2.0}, "patch_size": 2},
    "swin": {
        "backbone": "swin",
        "swin": {"dim": 8, "depths": (2, 1), "heads": (2, 2), "window": 4, "mlp_ratio": 2.0},
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_only_gradients_travel_and_nothing_is_scattered(backbone):
    # 7 images for each device: no axis of a parameter or of the tokens is a multiple of 7.
    batch = tiny.batch(56)
    method = build_method("mim.simmim", {**SIZES, **BACKBONES[backbone]}, batch)
    mesh = make_mesh({"data": 8}, jax.devices())
    params = tiny.params(method, batch)
    state = TrainState(np.int32(0), params, {"main": OPTIMIZER.init(params)}, {})
    where = param_shardings(state, mesh, min_size=0)
    shardings = Shardings(mesh, where, batch_sharding(mesh))
    step = make_train_step(method, {"main": OPTIMIZER}, shardings=shardings)
    text = step.lower(state, batch).compile().as_text()
    assert collectives(text).keys() == {"all-reduce"}
    # Gradients of the parameters, and of the biases [heads, tokens, tokens] made of tables.
    shapes = result_shapes(text, "all-reduce")
    assert shapes and not any(size % 7 == 0 for shape in shapes for size in shape)
    assert count(text, "scatter") == 0
    assert count(text, "sort") == 2  # of the cells: their order, and the rank of each
