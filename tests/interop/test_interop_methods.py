"""The trees that methods make are the trees that the tables are written for."""

import jax
import numpy as np

from maskjax.interop import Geometry
from maskjax.interop.paths import flatten
from maskjax.interop.shapes import param_shapes
from maskjax.method import build_method
from maskjax.train.fill import method_geometry

SIZES = {
    "image_size": (8, 12),
    "patch_size": 4,
    "encoder": {"dim": 24, "depth": 2, "heads": 3, "mlp_ratio": 2.0},
    "decoder": {"dim": 16, "depth": 3, "heads": 2, "mlp_ratio": 1.5},
    "mask_ratio": 0.5,
}


SWIN = {
    "image_size": (16, 16),
    "patch_size": 2,
    "backbone": "swin",
    "swin": {"dim": 8, "depths": (2, 1), "heads": (2, 4), "window": 2, "mlp_ratio": 2.0},
    "mask_cell": 4,
    "norm_eps": 1e-5,
}


def test_simmim_describes_the_swin_it_makes():
    batch = {
        "image": jax.ShapeDtypeStruct((2, 16, 16, 3), np.uint8),
        "position": jax.ShapeDtypeStruct((2, 2), np.uint32),
    }
    method = build_method("mim.simmim", SWIN, batch)
    params, _ = jax.eval_shape(method.init, jax.random.key(0), batch)
    found = {path: leaf.shape for path, leaf in flatten(params).items()}
    assert found == param_shapes(method_geometry(method))


def test_mae_describes_the_tree_it_makes():
    batch = {
        "image": jax.ShapeDtypeStruct((2, 8, 12, 3), np.uint8),
        "position": jax.ShapeDtypeStruct((2, 2), np.uint32),
    }
    method = build_method("mim.mae", SIZES, batch)
    params, _ = jax.eval_shape(method.init, jax.random.key(0), batch)
    found = {path: leaf.shape for path, leaf in flatten(params).items()}
    assert found == param_shapes(Geometry(**method.describe["geometry"]))
