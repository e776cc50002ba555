"""i2p_mae.npz: official I2P-MAE over given 2-D features."""

import dataclasses
import json
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax import Array

from adapters import _pretraining as pretraining
from maskjax import losses
from maskjax.interop.convert import from_torch, to_torch
from maskjax.interop.layouts import i2p_mae as layout
from maskjax.masking import Draws
from maskjax.method import model_config
from maskjax.methods.views import i2p_mae
from maskjax.pretext.point_semantics import NUM_VIEWS

INPUTS = ("config", "param/*", "input/*", "mask/ids_shuffle")
Given = Mapping[str, np.ndarray]


def outputs(given: Given) -> dict[str, Array]:
    """Results by running statistics; "trainmode_bn" by the batch's, as in training."""
    cfg = json.loads(str(given["config"]))
    batch = {"points": jnp.asarray(given["input/points"])}
    method = _method(cfg, given, batch)
    shapes = jax.eval_shape(method.init, jax.random.key(0), batch)
    rules = layout.rules(len(cfg["num_groups"]), tuple(cfg["decoder_up_blocks"]))
    like = {"params": shapes[0], "batch_stats": shapes[1]["batch_stats"]}
    tree = from_torch(pretraining.params_of(given), rules, like, allow_unused=layout.UNUSED)
    params, extra = tree["params"], {"batch_stats": tree["batch_stats"]}
    draws = _draws(method, extra, batch, given["mask/ids_shuffle"])
    method = _as_long_as_the_longest(method, extra, batch, draws)

    @jax.jit
    def run(params, extra, batch):
        def loss(params, *, train):
            terms, _ = method.terms(params, extra, batch, draws, train=train)
            each = {name: losses.total({name: term}) for name, term in terms.items()}
            return losses.total(terms), each

        seen = method.activations(params, extra, batch, draws)
        (_, plain), gradient = jax.value_and_grad(loss, has_aux=True)(params, train=False)
        encoded = method.encode(params, extra, batch, draws)["cls"]
        return seen, plain, gradient, loss(params, train=True)[1], encoded

    seen, plain, gradient, trained, encoded = run(params, extra, batch)
    written = to_torch({"params": gradient, "batch_stats": tree["batch_stats"]}, rules)
    return {
        **_levels(cfg, seen),
        **_views(seen),
        **{f"output/loss_{name}": plain[term] for term, name in TERMS},
        **{f"output/loss_{name}_trainmode_bn": trained[term] for term, name in TERMS},
        **{f"output/grad/{key}": written[key] for key in cfg["grad_keys"]},
        "output/sampling_prob": seen["probability"],
        "output/decoder_out": seen["decoded"],
        "output/rec_3d": np.asarray(seen["points"])[np.asarray(seen["hidden/1"])],
        "output/rec_2d": np.asarray(seen["semantics"])[np.asarray(seen["valid/1"])],
        "output/eval_feature_max": encoded,
    }


TERMS = (("points", "3d"), ("semantics", "2d"))


def _method(cfg: Mapping, given: Given, batch: Mapping) -> i2p_mae.I2PMAE:
    model = {
        "num_points": cfg["npoints"],
        "num_groups": tuple(cfg["num_groups"]),
        "group_sizes": tuple(cfg["group_sizes"]),
        "encoder": _size(cfg, "encoder"),
        "decoder": {**_size(cfg, "decoder"), "units": tuple(cfg["decoder_up_blocks"])},
        "mask_ratio": cfg["mask_ratio"],
        "drop_path": cfg["drop_path_rate"],
        "image_size": (cfg["img_size"],) * 2,
        "first_token": True,
    }
    # The file's features are of all clouds in the first view, then in the second; ours go by cloud.
    by_cloud = "(v b) ... -> (b v) ..."
    features = rearrange(jnp.asarray(given["input/img_feats"]), "m c h w -> m h w c")
    features = rearrange(features, by_cloud, v=NUM_VIEWS)
    attention = rearrange(jnp.asarray(given["input/cls_attention"]), by_cloud, v=NUM_VIEWS)
    saliency = attention.reshape(features.shape[:3])

    def look(params, pictures):
        return features, saliency

    made = model_config(i2p_mae.DEFAULTS, model)
    return i2p_mae.i2p_mae(made, batch, look, cfg["feat_dim_2d"], lambda key: {})


def _size(cfg: Mapping, side: str) -> dict:
    sizes = {key: tuple(cfg[f"{side}_{key}"]) for key in ("dims", "depths")}
    return {**sizes, "heads": cfg["num_heads"]}


def _draws(method, extra, batch: Mapping, order: np.ndarray) -> Draws:
    """Noise that draws the coarsest tokens in the order of the file."""
    start = Draws.replay({"mask": jnp.ones(order.shape)})
    probability = np.asarray(jax.jit(method.masked)(extra, batch, start).probability)
    # Draws go by ascending noise / probability.
    rank = np.argsort(order, axis=-1) + 1
    return Draws.replay({"mask": jnp.asarray(rank * probability, jnp.float32)})


def _as_long_as_the_longest(method, extra, batch: Mapping, draws: Draws):
    """The same with as much room as the longest example needs: the file shows what pads them."""
    valid = jax.jit(method.masked)(extra, batch, draws).valid
    rooms = tuple(int(np.asarray(there).sum(1).max()) for there in valid)
    return dataclasses.replace(method, rooms=rooms)


def _levels(cfg: Mapping, seen: Mapping[str, Array]) -> dict[str, Array]:
    found = {}
    below = (cfg["npoints"], *cfg["num_groups"])
    for level in range(len(cfg["num_groups"])):
        ids = np.asarray(seen[f"ids/{level}"])
        start = np.arange(len(ids), dtype=np.int32)[:, None, None] * below[level]
        found |= {
            f"mask/level{level}_masked": np.asarray(seen[f"hidden/{level}"], np.int32),
            f"output/level{level}_center": seen[f"centers/{level}"],
            f"output/level{level}_neighborhood": seen[f"offsets/{level}"],
            f"output/level{level}_knn_flat_idx": (ids + start).reshape(-1),
            f"output/level{level}_encoded_padded": seen[f"encoded/{level}"],
            f"output/level{level}_valid": np.asarray(seen[f"valid/{level}"], np.int32),
        }
    return found


def _views(seen: Mapping[str, Array]) -> dict[str, Array]:
    found = {}
    for view in range(NUM_VIEWS):
        found |= {
            f"output/view{view}_image_sigmoid_sample0": seen[f"picture/{view}"][0],
            f"output/view{view}_pc_min": seen[f"low/{view}"][:, None],
            f"output/view{view}_grid_size": seen[f"cell/{view}"][:, None, None],
            f"output/view{view}_offset_xy": seen[f"shift/{view}"],
        }
    return found
