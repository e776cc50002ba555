"""dmae.npz: official DMAE. Masks, features of both sides, all losses, gradients."""

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
from maskjax.interop.layouts import dmae, mae
from maskjax.interop.rules import Rule
from maskjax.interop.shapes import param_tree
from maskjax.masking import Draws
from maskjax.method import Method, Tree, build_method
from maskjax.nn.geometry import Geometry

INPUTS = ("config", "param/*", "input/*", "noise/*")
HEADS = {"fc-1layer": "linear", "mlp-1layer": "mlp", None: "none"}
STUDENT, TEACHER = "param/student/", "param/teacher/"
Given = Mapping[str, np.ndarray]
Results = dict[str, Any]


def outputs(given: Given) -> Results:
    """Every result of the file."""
    cfg = json.loads(str(given["config"]))
    images = pretraining.channels_last(given["input/images"])
    noise = jnp.asarray(given["noise/mask"])
    method = _method(cfg, images)
    rules = dmae.rules(pretraining.geometry_of(method), HEADS[cfg["projection"]])
    shapes, extra = jax.eval_shape(method.init, jax.random.key(0), {"image": images})
    params = from_torch(pretraining.params_of(given, STUDENT), rules, shapes)
    whole = _teacher(cfg, given, images)
    # What the method keeps of its teacher is what it runs.
    first = jax.tree.map(lambda leaf, like: leaf[: like.shape[0]], _like(whole, extra), extra)
    values, gradient = _losses(cfg, images, noise, params, first)
    gradients = to_torch(gradient, tuple(rule for rule in rules if isinstance(rule, Rule)))
    return {
        **_activations(method, images, noise, params, first),
        **_whole_teacher(cfg, images, noise, whole),
        **values,
        **{f"output/grad/{key}": value for key, value in gradients.items()},
    }


def _sizes(cfg: Mapping, which: str, channels: int) -> dict[str, Any]:
    """Entries of `config.model` for an MAE of the file's student or teacher."""
    one = {**cfg[which], "img_size": cfg["img_size"], "patch_size": cfg["patch_size"]}
    one["mlp_ratio"] = cfg["mlp_ratio"]
    ratios = {"mask_ratio": cfg["mask_ratio"], "norm_eps": cfg["ln_eps"], "in_chans": channels}
    return pretraining.model_of({"model": one, **ratios}) | {"norm_pix": False}


def _method(cfg: Mapping, images: Array, **changes: Any) -> Method:
    large = cfg["teacher"]
    hidden = int(large["embed_dim"] * cfg["mlp_ratio"])
    sizes = {"dim": large["embed_dim"], "depth": large["depth"], "heads": large["num_heads"]}
    sizes |= {"mlp_hidden": hidden, "patch_size": cfg["patch_size"], "eps": cfg["ln_eps"]}
    sizes["channels"] = images.shape[-1]
    blocks = cfg["teacher_block"] + 1
    change = tuple(f"{key}={value}" for key, value in sizes.items())
    model = {
        **_sizes(cfg, "student", images.shape[-1]),
        "teacher": {"name": "mae_b16", "blocks": blocks, "change": change},
        "student_blocks": (cfg["student_block"] + 1,),
        "head": HEADS[cfg["projection"]],
        **changes,
    }
    return build_method("distill.dmae", model, {"image": images})


def _teacher(cfg: Mapping, given: Given, images: Array) -> Tree:
    """All of the teacher, decoder included."""
    batch = {"image": images}
    geometry = Geometry(
        **build_method("mim.mae", _sizes(cfg, "teacher", images.shape[-1]), batch).describe[
            "geometry"
        ]
    )
    return from_torch(
        pretraining.params_of(given, TEACHER), mae.rules(geometry), param_tree(geometry)
    )


def _like(whole: Tree, extra: Tree) -> Tree:
    """The leaves of the teacher that the method has, too."""
    pick = lambda tree, like: (  # noqa: E731
        {name: pick(tree[name], inner) for name, inner in like.items()}
        if isinstance(like, dict)
        else tree
    )
    return {"teacher": pick(whole, extra["teacher"])}


def _whole_teacher(cfg: Mapping, images: Array, noise: Array, params: Tree) -> Results:
    given = pretraining.Inputs(_sizes(cfg, "teacher", images.shape[-1]), params, images, noise)
    seen = pretraining.predict(given, "activations", ("latent", "prediction"))
    return {"output/teacher_latent": seen["latent"], "output/teacher_pred": seen["prediction"]}


def _activations(method: Method, images: Array, noise: Array, params: Tree, extra: Tree) -> Results:
    def run(params, extra, images, noise):
        draws = Draws.replay({"mask": noise})
        return method.predict["activations"](params, extra, {"image": images}, draws)

    seen = jax.jit(run)(params, extra, images, noise)
    return {
        "mask/mask": seen["hidden"].astype(jnp.float32),
        "mask/ids_keep": seen["visible_ids"],
        "mask/ids_restore": seen["inverse"],
        "output/pred": seen["prediction"],
        "output/student_latent": seen["latent"],
        "output/student_aligned": seen["aligned"][:, 0],
        "output/student_projected": seen["projected"][:, 0],
        "output/teacher_aligned": seen["taught"][:, 0],
    }


def _losses(
    cfg: Mapping, images: Array, noise: Array, params: Tree, extra: Tree
) -> tuple[Results, Tree]:
    """All losses, and the gradient of the total on raw pixels, by the training path."""
    run = lambda **changes: _terms(  # noqa: E731
        _method(cfg, images, **changes), images, noise, params, extra
    )
    (terms, gradient), (normed, _), (squared, _) = run(), run(norm_pix=True), run(distance="l2")
    return {
        "output/loss_pixel": terms["reconstruction"],
        "output/loss_align_l1": terms["alignment"],
        "output/loss_align_l2": squared["alignment"],
        "output/loss_total": terms["total"],
        "output/loss_pixel_normpix": normed["reconstruction"],
        "output/loss_total_normpix": normed["total"],
    }, gradient


def _terms(
    method: Method, images: Array, noise: Array, params: Tree, extra: Tree
) -> tuple[dict[str, Array], Tree]:
    def objective(params, extra, images, noise):
        draws, step = Draws.replay({"mask": noise}), jnp.int32(0)
        terms, _ = method.phases[0].fn(params, extra, {"image": images}, draws, step, None)
        each = {name: losses.total({name: term}) for name, term in terms.items()}
        return losses.total(terms), {**each, "total": losses.total(terms)}

    gradient, terms = jax.jit(jax.grad(objective, has_aux=True))(params, extra, images, noise)
    return terms, gradient
