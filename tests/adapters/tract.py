"""tract.npz: TrAct's layer gradients, linear and convolutional, beside the ordinary ones."""

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maskjax.nn import tract
from maskjax.nn.dense import Dense
from maskjax.nn.masked_conv import MaskedConv

INPUTS = ("config", "param/*", "input/*")
Given = Mapping[str, np.ndarray]


def outputs(given: Given) -> dict[str, Any]:
    """Of every case: the layer's value, the loss and all gradients."""
    cfg = json.loads(str(given["config"]))
    results = {}
    for name, case in cfg["cases"].items():
        found = _linear(given, name) if "in_features" in case else _conv(given, name, case)
        x, params, target, layer, back = found
        ordinary = _gradients(layer, params, x, target, 0.0)
        out, loss, (grads, grad_x) = _gradients(layer, params, x, target, cfg["lam"])
        results |= {
            f"output/{name}/out": back["out"](out),
            f"output/{name}/loss": loss,
            f"output/{name}/grad_weight": back["weight"](grads["kernel"]),
            f"output/{name}/grad_weight_vanilla": back["weight"](ordinary[2][0]["kernel"]),
            f"output/{name}/grad_x": back["out"](grad_x),
        }
        if "bias" in grads:
            results[f"output/{name}/grad_bias"] = grads["bias"]
    return results


def _linear(given: Given, name: str) -> tuple:
    weight = given[f"param/{name}/weight"]
    params = {"kernel": weight.T, **_bias(given, name)}
    layer = Dense(len(weight), use_bias="bias" in params, first=True).apply
    back = {"out": lambda x: x, "weight": lambda kernel: kernel.T}
    return given[f"input/{name}/x"], params, given[f"input/{name}/target"], layer, back


def _conv(given: Given, name: str, case: Mapping[str, Any]) -> tuple:
    last, first = (lambda x: jnp.moveaxis(x, 1, -1)), (lambda x: jnp.moveaxis(x, -1, 1))
    weight = given[f"param/{name}/weight"]
    params = {"kernel": jnp.transpose(weight, (2, 3, 1, 0)), **_bias(given, name)}
    place = (len(weight), weight.shape[2:], case["stride"], case["padding"])
    module = MaskedConv(*place, use_bias="bias" in params, first=True)
    layer = lambda variables, x: module.apply(variables, x)[0]  # noqa: E731
    back = {"out": first, "weight": lambda kernel: jnp.transpose(kernel, (3, 2, 0, 1))}
    inputs = (last(given[f"input/{name}/{key}"]) for key in ("x", "target"))
    x, target = inputs
    return x, params, target, layer, back


def _bias(given: Given, name: str) -> dict[str, np.ndarray]:
    key = f"param/{name}/bias"
    return {"bias": given[key]} if key in given else {}


def _gradients(layer: Any, params: Any, x: Any, target: Any, strength: float) -> tuple:
    """Output, loss, and its gradients by parameters and input."""

    def objective(params: Any, x: Any) -> tuple:
        with tract.strength(strength) if strength else contextlib.nullcontext():
            out = layer({"params": params}, x)
        return jnp.square(target - out).mean(), out

    run = jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)
    (loss, out), grads = jax.jit(run)(jax.tree.map(jnp.asarray, params), jnp.asarray(x))
    return out, loss, grads
