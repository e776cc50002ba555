"""Layer masking: a classifier that can be run on any visible region of an image.

Balasubramanian, Feizi, "Towards Improved Input Masking for Convolutional Neural Networks", ICCV
2023. Training is ordinary classification; nothing is masked. Afterwards the mask is carried through
every layer of the convnet, or tokens are left out of the ViT, beside the baselines that paint
hidden pixels over. `maskjax explain` and `maskjax.explain` ask the functions "classify/STYLE".
"""

import dataclasses
import functools
from collections.abc import Callable, Hashable
from typing import Any

import jax.numpy as jnp
from einops import rearrange
from jax import Array
from ml_collections import ConfigDict

from maskjax import losses, masking, options
from maskjax.losses import Term
from maskjax.masking import Draws
from maskjax.masking.blank import blank, blank_smooth, share_visible
from maskjax.method import Aux, Batch, Mean, Method, Phase, Schedule, Terms, Tree, require
from maskjax.nn import flops, vit
from maskjax.nn.dropping_vit import DroppingViT
from maskjax.nn.geometry import Geometry
from maskjax.pretext import convnets, running_statistics
from maskjax.targets.pixels import standardize

# ResNet-50 at 224 px, as torchvision has it.
DEFAULTS = {
    **options.IMAGE,  # patch_size is of the ViT
    **convnets.DEFAULTS,
    "backbone": "resnet",  # or convnext, or vit
    "drop_path": 0.0,
    "encoder": dataclasses.asdict(vit.SIZES["b"]),  # vit
    "num_classes": 1000,
    **options.COMPUTE,
}

# How hidden pixels are kept from a network -> its layers' style; the paper's names for these are
# neighbour padding, no padding, partial convolution.
LAYER_STYLES = {"layer": "neighbour", "zero": "zero", "partial": "partial"}
PAINTED = ("grey", "black", "blur")


@dataclasses.dataclass(frozen=True)
class Net:
    """A classifier.

    Attributes:
        init: (key, images) -> variables.
        apply: (variables, images, valid bool[B, H, W] or None, **style) -> logits, features
            [B, D] that they are made of, last map [B, N, D]; with train=True also the new
            collections.
        blocks: branches that drop-path may drop, as the shape of its noise.
        styles: {name: keywords of `apply`} of what it can do with a mask.
    """

    init: Callable[..., Tree]
    apply: Callable[..., Any]
    blocks: tuple[int, ...]
    styles: dict[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class LayerMasking:
    """The functions of the method, over one configuration."""

    cfg: ConfigDict
    net: Net

    def init(self, key: Array, batch: Batch) -> tuple[Tree, Tree]:
        """(params, running statistics, if there are any)."""
        variables = self.net.init(key, self._images(batch["image"][:1]))
        extra = {name: tree for name, tree in variables.items() if name != "params"}
        return variables["params"], extra

    def loss(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws, step: Array, static: Hashable
    ) -> tuple[Terms, Aux]:
        """Cross-entropy of whole images."""
        noise = draws.uniform("drop_path", self.net.blocks) if self.cfg.drop_path else None
        variables, images = {"params": params, **extra}, self._images(batch["image"])
        logits, _, _, moved = self.net.apply(variables, images, train=True, drop_noise=noise)
        values = losses.cross_entropy(logits, batch["label"])
        right = (logits.argmax(-1) == batch["label"]).sum()
        aux = {"accuracy": Mean(right, len(values))}
        aux |= running_statistics.as_means(moved) if extra else {}
        return {"classification": Term(values.sum(), len(values))}, aux

    def after_update(self, params: Tree, extra: Tree, aux: Aux, step: Array) -> Tree:
        """Takes over the running statistics."""
        return running_statistics.taken_over(extra, aux) if extra else extra

    def encode(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """Features of whole images: positions of the last map, and their mean (also as "cls")."""
        images = self._images(batch["image"])
        _, _, tokens = self.net.apply({"params": params, **extra}, images)
        return {"cls": tokens.mean(1), "mean": tokens.mean(1), "tokens": tokens}

    def classify(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws, *, style: str = ""
    ) -> dict[str, Array]:
        """ "logits" float32[B, K] and "features" [B, D] of images of which only a part is seen.

        Args:
            params, extra, batch, draws: of a predict function; batch["visible"] bool[B, H, W].
            style: "" = whole images; a key of `Net.styles`; "grey", "black", "blur" = hidden pixels
                get the data's mean, 0, the mean with a smoothed edge.
        """
        variables, images = {"params": params, **extra}, self._images(batch["image"])
        options, valid = {}, None
        if style in self.net.styles:
            options, valid = self.net.styles[style], batch["visible"]
        elif style:
            black = -jnp.asarray(self.cfg.mean) / jnp.asarray(self.cfg.std)
            fill = blank_smooth if style == "blur" else blank
            images = fill(images, batch["visible"], black if style == "black" else 0.0)
        logits, features, _ = self.net.apply(variables, images, valid, **options)
        return {"logits": logits, "features": features}

    def _images(self, image: Array) -> Array:
        return standardize(image, self.cfg.mean, self.cfg.std)


def build(cfg: ConfigDict, example: Batch, schedule: Schedule) -> Method:
    """A classifier from `config.model`.

    Raises:
        UserError: for sizes or data that do not fit each other.
    """
    options.require_fields(example, "image", "label")
    options.check_pixels(cfg, example)
    fits = isinstance(cfg.num_classes, int) and cfg.num_classes > 1
    require(fits, "model.num_classes", cfg.num_classes, "must be a whole number above 1")
    known = (*convnets.MAKERS, "vit")
    require(cfg.backbone in known, "model.backbone", cfg.backbone, f"one of {', '.join(known)}")
    net, facts = (_vit if cfg.backbone == "vit" else _convnet)(cfg)
    method = LayerMasking(cfg, net)
    styles = {s: functools.partial(method.classify, style=s) for s in (*net.styles, *PAINTED)}
    return Method(
        method.init,
        (Phase(method.loss),),
        {
            "encode": method.encode,
            "classify": method.classify,
            **{f"classify/{name}": fn for name, fn in styles.items()},
        },
        after_update=method.after_update,
        describe={
            **({"geometry": facts.pop("geometry")} if facts["geometry"] else {}),
            **{key: cfg[key] for key in ("mean", "std", "num_classes")},
        },
        **{name: value for name, value in facts.items() if name != "geometry"},
    )


def _convnet(cfg: ConfigDict) -> tuple[Net, dict[str, Any]]:
    options_of = {"num_classes": cfg.num_classes, "final_norm": True}
    plain = convnets.convnet(cfg, **options_of)
    modules = {
        style: convnets.convnet(cfg, **options_of, style=layers).module
        for style, layers in LAYER_STYLES.items()
    }
    last = plain.stages[-1]

    def init(key: Array, images: Array) -> Tree:
        variables = plain.module.init(key, images)
        return {**variables, "params": plain.start(variables["params"], key)}

    def apply(
        variables: Tree,
        images: Array,
        valid: Array | None = None,
        *,
        style: str = "layer",
        train: bool = False,
        drop_noise: Array | None = None,
    ) -> tuple:
        mutable = [running_statistics.NAME] if train else False
        module = modules[style]
        found = module.apply(
            variables, images, valid, train=train, drop_noise=drop_noise, mutable=mutable
        )
        (logits, seen), moved = found if train else (found, None)
        tokens = rearrange(seen[last][0].astype(jnp.float32), "b h w d -> b (h w) d")
        results = (logits, seen["features"][0], tokens)
        return (*results, moved) if train else results

    stats = {"batch_stats": "extra/batch_stats"} if plain.batch_norm else {}
    facts = {
        "coupled": plain.batch_norm,
        "weights": {"params": "params", **stats},
        "geometry": plain.geometry,
        "layers": plain.layers,
        "step_flops": 3 * plain.flops,
    }
    styles = {name: {"style": name} for name in LAYER_STYLES}
    return Net(init, apply, (plain.blocks,), styles), facts


def _vit(cfg: ConfigDict) -> tuple[Net, dict[str, Any]]:
    size, (grid, patch) = options.size(cfg.encoder, "model.encoder"), options.patch_grid(cfg)
    require(patch[0] == patch[1], "model.patch_size", patch, "must be square")
    geometry = {
        "image_size": options.pair(cfg.image_size, "model.image_size"),
        "patch_size": patch[0],
        "channels": cfg.channels,
        "dim": size.dim,
        "depth": size.depth,
        "heads": size.heads,
        "mlp_hidden": size.mlp_hidden,
        "position": "learned",
        "pool": "cls",
        "num_classes": cfg.num_classes,
    }
    module = DroppingViT(Geometry(**geometry), options.compute(cfg), cfg.drop_path)

    def init(key: Array, images: Array) -> Tree:
        return module.init(key, masking.patchify(images, patch))

    def apply(
        variables: Tree,
        images: Array,
        valid: Array | None = None,
        *,
        train: bool = False,
        drop_noise: Array | None = None,
    ) -> tuple:
        # A token with a hidden pixel in it is left out: nothing of what is hidden gets in.
        dropped = None if valid is None else share_visible(valid, patch[0]) < 1
        patches = masking.patchify(images, patch)
        logits, tokens = module.apply(variables, patches, dropped, drop_noise=drop_noise)
        results = (logits, tokens[:, 0], tokens[:, 1:])
        return (*results, None) if train else results

    num = grid[0] * grid[1]
    total = flops.linear(num, patch[0] ** 2 * cfg.channels, size.dim)
    total += flops.transformer(num + 1, size)
    facts = {
        "geometry": geometry,
        "groups": (("^encoder/(pos_embed|cls_token)$", "no_decay"),),
        "layers": vit.layer_ids(size.depth),
        "step_flops": 3 * total,
    }
    return Net(init, apply, (size.depth, 2), {"drop": {}}), facts
