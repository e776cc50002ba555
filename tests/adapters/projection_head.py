"""projection_head.npz: heads on a linear backbone, contrastive losses, gradients."""

import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maskjax import losses
from maskjax.nn.dense import Dense
from maskjax.nn.projection import ProjectionHead

INPUTS = ("config", "param/*", "input/*")
Given = Mapping[str, np.ndarray]
# Their names of a head -> ours, and its linear layers there in order.
HEADS = {
    "reweight": ("reweight", ()),
    "identity_symrelu": ("identity", (0, 2)),
    "mlp3": ("mlp3", (0, 2, 4)),
}


def outputs(given: Given) -> dict[str, Any]:
    """Of every head its features, logits, loss and gradient; both losses of two views."""
    cfg = json.loads(str(given["config"]))
    there = {key.split("/")[1] for key in given if key.startswith("param/")}
    results = {}
    for name in there:
        results |= {f"output/{name}/{key}": x for key, x in _head(given, cfg, name).items()}
    if "input/z_two_views" in given:
        labels, views = jnp.asarray(given["input/labels"]), given["input/z_two_views"]
        own = jnp.arange(len(labels))
        for key, one in (("supcon", labels), ("ntxent", own)):
            both = jnp.concatenate([one, one])
            results[f"output/{key}_two_views"] = _loss(jnp.asarray(views), both, cfg)
    return results


def _loss(features: Any, labels: Any, cfg: Mapping[str, Any]) -> Any:
    return losses.supervised_contrastive(features, labels, cfg["temperature"]).mean()


def _head(given: Given, cfg: Mapping[str, Any], name: str) -> dict[str, Any]:
    kind, layers = HEADS[name]
    part = lambda key: given[f"param/{name}/{key}"]  # noqa: E731
    linear = lambda key: {"kernel": part(f"{key}.weight").T, "bias": part(f"{key}.bias")}  # noqa: E731
    head = {f"layer{i}": linear(f"projection_head.{place}") for i, place in enumerate(layers)}
    if kind == "identity":
        head["shift"] = part("projection_head.1.b")
    params = {"backbone": linear("backbone"), "head": head, "classifier": linear("classifier")}
    params = jax.tree.map(jnp.asarray, params)
    widths = (cfg["hidden"], part("classifier.weight").shape[1])
    module = ProjectionHead(kind, *widths, cfg["kappa"])
    dense = lambda params, x: Dense(params["kernel"].shape[1]).apply({"params": params}, x)  # noqa: E731

    def objective(params: Any) -> tuple:
        pre = dense(params["backbone"], jnp.asarray(given["input/x"]))
        post = module.apply({"params": params["head"]}, pre)
        seen = {"pre": pre, "post": post, "logits": dense(params["classifier"], post)}
        return _loss(post, jnp.asarray(given["input/labels"]), cfg), seen

    (loss, seen), grads = jax.jit(jax.value_and_grad(objective, has_aux=True))(params)
    gradient = grads["backbone"]["kernel"].T
    return {**seen, "supcon_loss": loss, "grad/backbone.weight": gradient}
