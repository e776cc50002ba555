"""Encoders of whole images for classifiers, by config: ViT of any kind, Swin, ResNet, ConvNeXt."""

import dataclasses
import math
from collections.abc import Callable

import einops
import flax.linen as nn
from jax import Array
from ml_collections import ConfigDict

from maskjax import masking, options
from maskjax.errors import UserError
from maskjax.method import Tree, require
from maskjax.nn import flops, initializers, swin, vit
from maskjax.nn.families import SwinGeometry
from maskjax.nn.geometry import Geometry
from maskjax.nn.swin import SwinEncoder
from maskjax.nn.teacher_vit import VariantEncoder
from maskjax.nn.teachers import changed
from maskjax.pretext import convnets
from maskjax.pretext.running_statistics import NAME as STATS

# Entries of `config.model`; MAE's ViT-B/16 as its fine-tuning has it.
DEFAULTS = {
    "backbone": "vit",  # or swin (patches of 4 pixels, norm_eps 1e-5), resnet, convnext
    "encoder": dataclasses.asdict(vit.SIZES["b"]),  # vit
    "position": "learned",  # vit: or sincos (fixed), sincos_rows, none
    "relative": "none",  # vit: layer = a table of relative biases in each block (BEiT, SimMIM)
    "qkv_bias": "all",  # vit: query_value = no bias of the key (BEiT, SimMIM)
    "layer_scale": 0.0,  # vit: where channel factors of the branches start; 0 = there are none
    "change": (),  # vit: "key=value" of its geometry, such as ("pre_norm=true",)
    "swin": dataclasses.asdict(swin.SWIN_SIZES["b"]),
    "resnet": convnets.DEFAULTS["resnet"],
    "convnext": convnets.DEFAULTS["convnext"],
    "drop_path": 0.1,  # rate of the last block
    "init_std": 0.0,  # of the weights, normal; 0 = Xavier-uniform (vit), PyTorch's (swin, resnet)
    "norm_eps": 1e-6,  # vit, swin
}
LINEAR = r"(query|key|value|out|fc1|fc2|reduction|patch_embed)/kernel$"
Call = Callable[[nn.Module, Array, Array | None, bool], Array]


@dataclasses.dataclass(frozen=True)
class ImageEncoder:
    """An encoder and what a classifier must know of it.

    Attributes:
        module: unbound.
        call: (bound module, images [B, H, W, C] standardised, drop noise [B, blocks, 2] or None,
            train) -> tokens [B, first + N, F].
        width: F.
        first: how many tokens stand in front of those of the image; 0 = no class token.
        blocks: how many branches pairs drop-path may drop; 0 = it has none.
        layers: depth ids of parameters.
        flops: of a forward pass for one image.
        geometry: sizes for weights files, with their "family" if it is no ViT.
        groups: parameters that are not decayed.
        coupled: batch statistics tie the examples of a batch together.
        weights: `Method.weights`, where files hold more or less than the parameters.
    """

    module: nn.Module
    call: Call
    width: int
    first: int
    blocks: int
    layers: Callable[[str], int | tuple[int, ...] | None]
    flops: int
    geometry: dict
    groups: tuple[tuple[str, str], ...] = ()
    coupled: bool = False
    weights: dict[str, str] = dataclasses.field(default_factory=dict)

    def init(self, key: Array, images: Array) -> tuple[Array, Tree]:
        """Tokens of standardised images, and {"params", "batch_stats" if there are any}."""
        call = lambda module: self.call(module, images, None, False)  # noqa: E731
        return self.module.init_with_output(key, method=call)

    def apply(
        self, params: Tree, stats: Tree, images: Array, noise: Array | None = None, *, train: bool
    ) -> tuple[Array, Tree]:
        """Tokens of standardised images, and the running statistics after them.

        Args:
            params: of the encoder.
            stats: its running statistics, {} if it has none.
            images: float32[B, H, W, C].
            noise: float32[B, blocks, 2] for drop-path; None = none.
            train: whether batch norms use the batch's statistics.
        """
        call = lambda module: self.call(module, images, noise, train)  # noqa: E731
        variables, mutable = {"params": params, STATS: stats}, [STATS] if train else []
        tokens, moved = self.module.apply(variables, method=call, mutable=mutable)
        return tokens, moved.get(STATS, stats)


def image_encoder(cfg: ConfigDict, pool: str) -> ImageEncoder:
    """The encoder that the entries of `DEFAULTS` in `config.model` name.

    Args:
        cfg: `config.model`.
        pool: of the classifier; with "gap" a ViT has no final norm.

    Raises:
        UserError: for sizes that do not fit each other, or an unknown backbone.
    """
    for key, top in (("drop_path", 1), ("layer_scale", math.inf), ("init_std", math.inf)):
        fits = isinstance(cfg[key], int | float) and 0 <= cfg[key] < top
        require(fits, f"model.{key}", cfg[key], f"must be a number in [0, {top})")
    positive = isinstance(cfg.norm_eps, float) and 0 < cfg.norm_eps < 1
    require(positive, "model.norm_eps", cfg.norm_eps, "must be a small positive number")
    known = ", ".join(BACKBONES)
    require(cfg.backbone in BACKBONES, "model.backbone", cfg.backbone, f"one of {known}")
    return BACKBONES[cfg.backbone](cfg, pool)


def started(params: Tree, key: Array, cfg: ConfigDict) -> Tree:
    """The encoder's parameters with weights redrawn at `config.model.init_std`, if that is set."""
    if not cfg.init_std:
        return params
    return initializers.redrawn(params, key, nn.initializers.normal(cfg.init_std), LINEAR)


def _patches(cfg: ConfigDict) -> tuple[tuple[int, int], int, int]:
    """(rows, columns), the side of a patch, and the values in it."""
    grid, patch = options.patch_grid(cfg)
    require(patch[0] == patch[1], "model.patch_size", patch, "must be square")
    return grid, patch[0], patch[0] ** 2 * cfg.channels


def _vit(cfg: ConfigDict, pool: str) -> ImageEncoder:
    """A ViT with the options of a `Geometry`; its position table trains (MAE's fine-tuning)."""
    size = options.size(cfg.encoder, "model.encoder")
    grid, side, patch_dim = _patches(cfg)
    values = {
        "image_size": options.pair(cfg.image_size, "model.image_size"),
        "patch_size": side,
        "channels": cfg.channels,
        "dim": size.dim,
        "depth": size.depth,
        "heads": size.heads,
        "mlp_hidden": size.mlp_hidden,
        "position": cfg.position,
        "relative": cfg.relative,
        "qkv_bias": cfg.qkv_bias,
        "layer_scale": cfg.layer_scale > 0,
        "pool": pool if pool in ("gap", "cls") else "none",
        "eps": cfg.norm_eps,
    }
    try:
        values |= changed(cfg.change)
        geometry = Geometry(**values)
    except UserError as error:
        raise UserError(f"config.model: {error}") from error
    # A table that all blocks share is one of pretraining: files and runs give each block its copy.
    require(cfg.relative != "shared", "model.relative", cfg.relative, "must be none or layer")
    compute, scale = options.compute(cfg), cfg.layer_scale or 1.0
    module = VariantEncoder(geometry, compute, cfg.drop_path, scale, parent=None)
    num, front = math.prod(grid), geometry.prefix_tokens
    total = flops.linear(num, patch_dim, size.dim) + flops.transformer(num + front, size)

    def call(encoder: nn.Module, images: Array, noise: Array | None, train: bool) -> Array:
        return encoder(masking.patchify(images, (side, side)), drop_noise=noise)[0]

    facts = (size.dim, front, size.depth, vit.layer_ids(size.depth), total, values)
    undecayed = (("^encoder/(pos_embed|cls_token|dist_token|register_tokens)$", "no_decay"),)
    return ImageEncoder(module, call, *facts, undecayed)


def _swin(cfg: ConfigDict, pool: str) -> ImageEncoder:
    """A Swin, whose tokens are those of its last stage."""
    size = options.swin_size(cfg.swin, "model.swin")
    grid, side, patch_dim = _patches(cfg)
    try:
        size.grids(grid)
    except ValueError as error:
        require(False, "model.swin.window", size.window, f"on patches {grid}: {error}")
    eps, drop = cfg.norm_eps, cfg.drop_path
    compute = options.compute(cfg)
    module = SwinEncoder(size, grid, patch_dim, compute, False, drop, eps, parent=None)

    def call(encoder: nn.Module, images: Array, noise: Array | None, train: bool) -> Array:
        return encoder(masking.patchify(images, (side, side)), drop_noise=noise)[0]

    geometry = {
        "family": SwinGeometry.FAMILY,
        "image_size": options.pair(cfg.image_size, "model.image_size"),
        "patch_size": side,
        "channels": cfg.channels,
        "embed_dim": size.dim,
        "depths": size.depths,
        "heads": size.heads,
        "window": size.window,
        "mlp_ratio": size.mlp_ratio,
        "eps": eps,
    }
    total = swin.forward_flops(size, grid, patch_dim)
    facts = (size.num_features, 0, sum(size.depths), swin.layer_ids(size), total, geometry)
    return ImageEncoder(module, call, *facts)


def _convnet(cfg: ConfigDict, pool: str) -> ImageEncoder:
    """A ResNet or ConvNeXt; its tokens are the places of the last stage's map.

    The norm of a ConvNeXt after pooling is that of pool "gap".
    """
    net = convnets.convnet(cfg)
    last = net.stages[-1]

    def call(encoder: nn.Module, images: Array, noise: Array | None, train: bool) -> Array:
        dropped = None if noise is None else noise[..., 0]
        (places, _) = encoder(images, train=train, drop_noise=dropped)[1][last]
        return einops.rearrange(places, "b h w d -> b (h w) d")

    facts = (net.widths[-1], 0, net.blocks, net.layers, net.flops, net.geometry)
    stats = {"batch_stats": "extra/batch_stats/encoder"} if net.batch_norm else {}
    weights = {"params": "params/encoder", **stats}
    return ImageEncoder(net.module, call, *facts, coupled=net.batch_norm, weights=weights)


BACKBONES: dict[str, Callable[[ConfigDict, str], ImageEncoder]] = {
    "vit": _vit,
    "swin": _swin,
    "resnet": _convnet,
    "convnext": _convnet,
}
