"""simmim.npz: official SimMIM, ViT and Swin. Masks, activations, loss, gradients, fine-tuning."""

import json
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adapters import _pretraining as pretraining
from maskjax import losses
from maskjax.interop.convert import from_torch, to_torch
from maskjax.interop.layouts import beit, swin
from maskjax.interop.rules import Layout
from maskjax.masking import Draws
from maskjax.masking.counts import count_hidden
from maskjax.method import Method, build_method
from maskjax.nn.relative import relative_bias, resize_relative, source_offsets, whole_offsets
from maskjax.nn.swin import SwinSize
from maskjax.nn.swin_block import window_of

INPUTS = ("config", "param/*", "input/*", "mask/*/permutation", "rpb/in")
Given = Mapping[str, np.ndarray]
Results = dict[str, Any]


def outputs(given: Given) -> Results:
    """Everything the file holds; it may lack a model."""
    cfg = json.loads(str(given["config"]))
    kinds = sorted({key.split("/")[1] for key in given if key.startswith("mask/")})
    results = _resized(given, cfg)
    for kind in kinds:
        found = _Model(given, cfg, kind).results()
        results |= {key.replace("KIND", kind): value for key, value in found.items()}
    return results


def _resized(given: Given, cfg: Mapping) -> Results:
    if "rpb/in" not in given:
        return {}
    sides = [cfg["rpb"][key] for key in ("src_side", "dst_side")]
    grids = [((side + 1) // 2,) * 2 for side in sides]
    return {
        "rpb/out": resize_relative(given["rpb/in"], *grids),
        "rpb/src_coords": np.float32(source_offsets(*sides)),
        "rpb/dst_coords": np.float32(whole_offsets(sides[1])),
    }


class _Model:
    """One of the file's models: the method, its parameters and inputs."""

    def __init__(self, given: Given, cfg: Mapping, kind: str):
        self.kind, self.cfg, self.sizes = kind, cfg, cfg[kind]
        self.image = pretraining.channels_last(given[f"input/{kind}/images"])
        batch = {"image": self.image}
        self.method = build_method("mim.simmim", self._config(), batch)
        shapes, _ = jax.eval_shape(self.method.init, jax.random.key(0), batch)
        prefix = f"param/{kind}/"
        arrays = {k.removeprefix(prefix): v for k, v in given.items() if k.startswith(prefix)}
        self.rules = rules_of(self.method, cfg, kind)
        self.params = from_torch(arrays, self.rules, shapes, allow_unused=swin.UNUSED)
        # The first cells of the permutation are hidden; of the noise, those of the largest values.
        self.noise = -jnp.argsort(jnp.asarray(given[f"mask/{kind}/permutation"]), -1)

    def _config(self) -> dict[str, Any]:
        cfg = self.cfg
        size = {"dim": self.sizes["embed_dim"], "mlp_ratio": self.sizes.get("mlp_ratio", 4.0)}
        if self.kind == "vit":
            size |= {"depth": self.sizes["depth"], "heads": self.sizes["num_heads"]}
        else:
            size |= {"depths": tuple(self.sizes["depths"]), "heads": tuple(self.sizes["num_heads"])}
            size |= {"window": self.sizes["window_size"]}
        return {
            **pretraining.pixels(self.image.shape[-1]),
            "image_size": self.sizes["img_size"],
            "patch_size": self.sizes["patch_size"],
            "backbone": self.kind,
            "encoder" if self.kind == "vit" else "swin": size,
            "mask_cell": cfg["mask_patch_size"],
            "mask_ratio": cfg["mask_ratio"],
            "drop_path": 0.0,
            "norm_eps": cfg[f"{self.kind}_norm_eps"],
        }

    def results(self) -> Results:
        """Keys with KIND in the place of the model's name."""
        return {**self._activations(), **self._loss(), **self._layers()}

    def _draws(self, noise: Array) -> Draws:
        return Draws.replay({"mask": noise})

    def _activations(self) -> Results:
        def run(params, image, noise):
            draws = self._draws(noise)
            return self.method.predict["activations"](params, {}, {"image": image}, draws)

        seen = jax.jit(run)(self.params, self.image, self.noise)
        (rows, columns), hidden = self.method.describe["grid"], seen["hidden"]
        step = math.isqrt(hidden.shape[1] // seen["latent"].shape[1])
        latent = seen["latent"].reshape(len(hidden), rows // step, columns // step, -1)
        first = lambda x: jnp.moveaxis(x, -1, 1)  # noqa: E731
        cells = self.noise.shape[-1]
        return {
            "mask/KIND/token_mask": hidden.reshape(-1, rows, columns).astype(jnp.int32),
            "mask/KIND/mask_count": count_hidden(cells, self.cfg["mask_ratio"], rounding="ceil"),
            "output/KIND/patch_embed": seen["patch_embed"],
            "output/KIND/encoder_out": first(latent),
            "output/KIND/reconstruction": first(seen["prediction"]),
            **(self._vit(seen) if self.kind == "vit" else self._swin(seen)),
        }

    def _vit(self, seen: Mapping[str, Array]) -> Results:
        table, grid = self.params["encoder"]["relative"], self.method.describe["grid"]
        blocks = enumerate(jnp.moveaxis(seen["block"], 1, 0))
        return {
            "output/KIND/rel_pos_bias": relative_bias(table, grid, cls=True),
            **{f"output/KIND/block{i}": value for i, value in blocks},
        }

    def _swin(self, seen: Mapping[str, Array]) -> Results:
        results = {}
        for stage in range(len(self.sizes["depths"])):
            blocks = enumerate(jnp.moveaxis(seen[f"{stage}/block"], 1, 0))
            results |= {f"output/KIND/layer{stage}_block{i}": value for i, value in blocks}
            if f"{stage}/merge" in seen:
                results[f"output/KIND/layer{stage}_downsample"] = seen[f"{stage}/merge"]
        return results

    def _loss(self) -> Results:
        def objective(params, image, noise):
            phase, draws = self.method.phases[0].fn, self._draws(noise)
            terms, _ = phase(params, {}, {"image": image}, draws, jnp.int32(0), None)
            return losses.total(terms)

        found = jax.jit(jax.value_and_grad(objective))(self.params, self.image, self.noise)
        gradients = to_torch(found[1], self.rules)
        return {
            "output/KIND/loss": found[0],
            **{f"grad/KIND/{key}": value for key, value in gradients.items()},
        }

    def _layers(self) -> Results:
        """Depth ids by the names of fine-tuned files, which have no decoder and no prefix."""
        ids = by_key(self.method, self.params, self.rules)
        encoder = {
            k.removeprefix("encoder."): i for k, i in ids.items() if k.startswith("encoder.")
        }
        return {"lrd/KIND/layer_ids_json": json.dumps(encoder)}


def rules_of(method: Method, cfg: Mapping, kind: str) -> Layout:
    """The import table of a model of the file."""
    if kind == "vit":
        return beit.rules_pretraining(pretraining.geometry_of(method))
    sizes = cfg["swin"]
    size = SwinSize(sizes["embed_dim"], sizes["depths"], sizes["num_heads"], sizes["window_size"])
    grids = size.grids(method.describe["grid"])
    sides = [window_of(grid, size.window)[0] for grid in grids]
    return swin.rules(sides, sizes["patch_size"], len(method.describe["mean"]))


def by_key(method: Method, params: Any, rules: Layout) -> dict[str, int]:
    """The depth id of each official tensor, by `Method.layers`."""

    def ids(path: tuple, leaf: Array) -> np.ndarray:
        layer = np.asarray(method.layers(jax.tree_util.keystr(path, simple=True, separator="/")))
        return np.broadcast_to(layer.reshape(-1, *[1] * (leaf.ndim - 1)), leaf.shape)

    arrays = to_torch(jax.tree_util.tree_map_with_path(ids, params), rules)
    return {key: int(array.flat[0]) for key, array in arrays.items()}
