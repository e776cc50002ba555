"""Convnets by config: their FLOPs are those of the program, strides those of the maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from maskjax import options
from maskjax.pretext import convnets

NETS = {
    "resnet": {"resnet": {"stem": 6, "widths": (2, 3, 4), "blocks": (1, 2, 1), "expansion": 3}},
    "plain shortcut": {"resnet": {"stem": 6, "widths": (2, 3), "blocks": (2, 1), "expansion": 3}},
    "small images": {
        "resnet": {
            "stem": 5,
            "stem_stride": 1,
            "stem_pool": False,
            "widths": (2, 3),
            "blocks": (1, 1),
            "expansion": 2,
        }
    },
    "convnext": {"backbone": "convnext", "convnext": {"widths": (4, 6), "blocks": (1, 2)}},
}


def made(name):
    cfg = ConfigDict({**options.IMAGE, **convnets.DEFAULTS, "image_size": (32, 64)})
    for key, value in NETS[name].items():
        if isinstance(value, dict):
            cfg[key].update(value)
        else:
            cfg[key] = value
    return convnets.convnet(cfg)


def products(jaxpr):
    """Two operations for each multiply-add of convolutions and matrix products in a program."""
    total = 0
    for equation in jaxpr.eqns:
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                total += products(inner) if hasattr(inner, "eqns") else 0
        if equation.primitive.name == "conv_general_dilated":
            shape = equation.invars[1].aval.shape  # rows, columns, inputs of a group, outputs
            total += 2 * np.prod(equation.outvars[0].aval.shape) * np.prod(shape[:3])
        elif equation.primitive.name == "dot_general":
            contracted = equation.params["dimension_numbers"][0][0]
            depth = np.prod([equation.invars[0].aval.shape[axis] for axis in contracted])
            total += 2 * np.prod(equation.outvars[0].aval.shape) * depth
    return total


@pytest.mark.parametrize("name", NETS)
def test_flops_and_strides_are_those_of_the_program(name):
    net, images = made(name), jnp.zeros((1, 32, 64, 3))
    variables = jax.eval_shape(net.module.init, jax.random.key(0), images)
    run = lambda variables, images: net.module.apply(variables, images)  # noqa: E731
    assert products(jax.make_jaxpr(run)(variables, images).jaxpr) == net.flops
    _, seen = jax.eval_shape(run, variables, images)
    for stage, width, stride in zip(net.stages, net.widths, net.strides, strict=True):
        assert seen[stage][0].shape == (1, 32 // stride, 64 // stride, width)


def test_only_networks_that_files_hold_are_described():
    assert made("resnet").geometry["family"] == "resnet"
    assert made("convnext").geometry["family"] == "convnext"
    assert made("small images").geometry == {}
