"""hpm.npz: official HPM. Full view, masks, student, losses and gradients in both modes, EMA."""

import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adapters import _pretraining as pretraining
from maskjax import losses
from maskjax.interop.convert import from_torch, to_torch
from maskjax.interop.layouts import hpm
from maskjax.interop.rules import Layout, Rule
from maskjax.masking import Draws, count_visible, guided, tokens
from maskjax.method import Method, Schedule, Tree, build_method

INPUTS = (
    "config",
    "param/*",
    "input/*",
    "noise/*",
    "pairwise/pred",
    "pairwise/target",
    "ema/epoch",
)
Given = Mapping[str, np.ndarray]
Results = dict[str, Any]


def outputs(given: Given) -> Results:
    """Everything the file holds; it may lack whole sections."""
    cfg = json.loads(str(given["config"]))
    images = pretraining.channels_last(given["input/images"])
    noise = jnp.asarray(given["noise/mask_random"])
    params, rules = _params(given, cfg, images)
    seen = _run(_method(cfg, images), "activations", params, images, noise)
    return {
        **_full_view(cfg, params, images, noise),
        **_masks(noise, seen["difficulty"], cfg),
        **_student(seen, cfg),
        **_losses(cfg, params, images, noise, rules),
        **_pairs(given, cfg, images),
        **_ema(given, cfg, images),
    }


def _method(cfg: Mapping, images: Array, **changes: Any) -> Method:
    """HPM at the epoch of the student's mask, the last one of the file's list."""
    epoch, epochs = cfg["mask_epochs"][-1]
    model = {
        **pretraining.model_of({"in_chans": images.shape[-1], **cfg}),
        "norm_pix": False,
        "hard_share": (0.0, 0.5 * (epoch + 1) / epochs),
        **changes,
    }
    return build_method("mim.hpm", model, {"image": images}, Schedule(1, 1.0))


def _params(given: Given, cfg: Mapping, images: Array) -> tuple[Tree, Layout]:
    method = _method(cfg, images)
    rules = hpm.rules(pretraining.geometry_of(method))
    shapes, _ = jax.eval_shape(method.init, jax.random.key(0), {"image": images})
    return from_torch(pretraining.params_of(given), rules, shapes), rules


def _run(method: Method, name: str, params: Tree, images: Array, noise: Array) -> dict[str, Array]:
    """A prediction of a student that is its own teacher."""

    def predict(params, images, noise):
        draws = Draws.replay({"mask": noise})
        return method.predict[name](params, {"teacher": params}, {"image": images}, draws)

    return jax.jit(predict)(params, images, noise)


def _full_view(cfg: Mapping, params: Tree, images: Array, noise: Array) -> Results:
    """The whole image: nothing is hidden; the noise still orders the tokens, so it is rising."""
    whole = _method(cfg, images, mask_ratio=0.0)
    raster = jnp.broadcast_to(jnp.arange(noise.shape[1], dtype=jnp.float32), noise.shape)
    seen = _run(whole, "activations", params, images, raster)
    return {
        "output/full_view/features": seen["latent"],
        "output/full_view/pix_pred": seen["prediction"],
        "output/full_view/loss_pred": seen["difficulty"],
    }


def _masks(noise: Array, difficulty: Array, cfg: Mapping) -> Results:
    """The student gets the mask of the last epoch of the list."""
    num_tokens, results = noise.shape[1], {}
    num_visible = count_visible(num_tokens, cfg["mask_ratio"])
    for epoch, epochs in cfg["mask_epochs"]:
        number = guided.hard_counts(epochs, num_tokens - num_visible)[epoch]
        options = {"num_visible": num_visible, "num_hard": int(number)}
        hidden = guided.easy_to_hard(noise, difficulty, **options).hidden()
        results[f"mask/epoch{epoch}_of{epochs}"] = hidden.astype(jnp.float32)
        results[f"mask/epoch{epoch}_of{epochs}_n_hard"] = number
    return results


def _student(seen: Mapping[str, Array], cfg: Mapping) -> Results:
    """The file lists cls, visible, then hidden patches, each in raster order."""
    rank = jnp.argsort(seen["visible_ids"], -1)
    latent = jnp.concatenate([seen["latent"][:, :1], tokens.gather(seen["latent"][:, 1:], rank)], 1)
    order = jnp.argsort(seen["hidden"], -1, stable=True)
    hidden = order[:, rank.shape[1] :]
    return {
        "mask/used_for_student": seen["hidden"].astype(jnp.int32),
        "output/student/features": latent,
        "output/student/pix_pred_in_decoder_order": tokens.gather(seen["prediction"], order),
        "output/student/loss_pred_in_decoder_order": jnp.take_along_axis(seen["losses"], order, 1),
        "output/student/mask_num": jnp.int32(hidden.shape[1]),
    }


def _losses(cfg: Mapping, params: Tree, images: Array, noise: Array, rules: Layout) -> Results:
    trained = tuple(rule for rule in rules if isinstance(rule, Rule))
    results: Results = {}
    for mode in ("raw", "norm"):
        method = _method(cfg, images, norm_pix=mode == "norm")
        (terms, gradient), absolute = (
            _terms(method, params, images, noise),
            _terms(
                _method(cfg, images, norm_pix=mode == "norm", loss="absolute"),
                params,
                images,
                noise,
            ),
        )
        seen = _run(method, "activations", params, images, noise)
        num_hidden = int(seen["hidden"][0].sum())
        order = jnp.argsort(seen["hidden"], -1, stable=True)[:, -num_hidden:]
        results |= {
            f"output/{mode}/loss_rec": terms["reconstruction"],
            f"output/{mode}/loss_relative": terms["relative"],
            f"output/{mode}/loss_absolute": absolute[0]["absolute"],
            f"output/{mode}/patch_losses": jnp.take_along_axis(seen["errors"], order, 1),
        }
        results |= {f"grad_{mode}/{k}": g for k, g in to_torch(gradient, trained).items()}
    return results


def _terms(method: Method, params: Tree, images: Array, noise: Array) -> tuple[dict, Tree]:
    """({name: value of the term}, gradient of their total) by the training path."""

    def objective(params, teacher, images, noise):
        draws = Draws.replay({"mask": noise})
        extra, step = {"teacher": teacher}, jnp.int32(0)
        terms, _ = method.phases[0].fn(params, extra, {"image": images}, draws, step, None)
        return losses.total(terms), {name: losses.total({name: t}) for name, t in terms.items()}

    gradient, terms = jax.jit(jax.grad(objective, has_aux=True))(params, params, images, noise)
    return terms, gradient


def _pairs(given: Given, cfg: Mapping, images: Array) -> Results:
    if "pairwise/pred" not in given:
        return {}
    pair = (jnp.asarray(given["pairwise/pred"]), jnp.asarray(given["pairwise/target"]))
    sums, pairs = losses.pairwise_order(*pair)
    return {
        "pairwise/loss": losses.total({"pairs": losses.Term(sums.sum(), pairs.sum())}),
        "pairwise/loss_absolute": losses.standardized_error(*pair).mean(),
    }


def _ema(given: Given, cfg: Mapping, images: Array) -> Results:
    """The teacher's decay, read off a teacher of ones that follows a student of zeros."""
    if "ema/epoch" not in given:
        return {}
    epochs = [int(epoch) for epoch in given["ema/epoch"]]
    model = {**pretraining.model_of({"in_chans": images.shape[-1], **cfg})}
    long = Schedule(max(epochs) + 1, 1.0)
    method = build_method("mim.hpm", model, {"image": images}, long)
    after = lambda e: method.after_update({"w": 0.0}, {"teacher": {"w": 1.0}}, {}, jnp.int32(e))  # noqa: E731
    return {"ema/decay": jnp.stack([after(epoch)["teacher"]["w"] for epoch in epochs])}
