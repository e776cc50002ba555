"""Encoders that see mask tokens in the places of hidden patches, by config: BEiT's ViT, Swin."""

import dataclasses
import math
from collections.abc import Callable

import flax.linen as nn
from jax import Array
from ml_collections import ConfigDict

from maskjax import options
from maskjax.method import Tree, require
from maskjax.nn import flops, initializers, swin, vit
from maskjax.nn.families import SwinGeometry
from maskjax.nn.geometry import Geometry
from maskjax.nn.swin import SwinEncoder
from maskjax.nn.teacher_vit import VariantEncoder

# Entries of `config.model`; SimMIM's ViT-B/16.
DEFAULTS = {
    "backbone": "vit",  # or swin, which wants patches of 4 pixels, norm_eps 1e-5, no drop_path
    "encoder": dataclasses.asdict(vit.Size(768, 12, 12)),  # vit
    "swin": dataclasses.asdict(swin.SWIN_SIZES["b"]),
    "drop_path": 0.1,  # rate of the last block
    "layer_scale": 0.1,  # vit: where the channel factors of the branches start; 0 = none
    "init_std": 0.02,  # of the weights; official at every width, small ones want more
    "norm_eps": 1e-6,
}
LINEAR = r"(query|key|value|out|fc1|fc2|reduction)/kernel$"


@dataclasses.dataclass(frozen=True)
class Backbone:
    """An encoder and what the method must know of it.

    Attributes:
        encoder: unbound module (patches, hidden, taps, drop_noise) -> (tokens, taps).
        width: F, of its tokens.
        first: how many tokens stand in front of those of the image.
        reduction: by how much its grid is smaller than that of the patches.
        blocks: how many there are, for drop-path.
        taps: of all its layers.
        start: (parameters, key) -> parameters with the official initial values.
        layers: depth ids of parameters.
        groups: parameters that are not decayed.
        flops: of a forward pass for one image.
        geometry: of the encoder and its head to pixels, for weights files.
    """

    encoder: nn.Module
    width: int
    first: int
    reduction: int
    blocks: int
    taps: tuple[str, ...]
    start: Callable[[Tree, Array], Tree]
    layers: Callable[[str], int | tuple[int, ...] | None]
    groups: tuple[tuple[str, str], ...]
    flops: int
    geometry: dict


def backbone(cfg: ConfigDict, grid: tuple[int, int]) -> Backbone:
    """The encoder that the entries of `DEFAULTS` in `config.model` name.

    Raises:
        UserError: for sizes that do not fit each other or the grid of patches.
    """
    for key, top in (("drop_path", 1), ("layer_scale", math.inf), ("norm_eps", 1)):
        fits = isinstance(cfg[key], int | float) and 0 <= cfg[key] < top
        require(fits, f"model.{key}", cfg[key], f"must be a number in [0, {top})")
    for key in ("norm_eps", "init_std"):
        require(cfg[key] > 0, f"model.{key}", cfg[key], "must be positive")
    patch = options.pair(cfg.patch_size, "model.patch_size")
    require(patch[0] == patch[1], "model.patch_size", patch, "must be square")
    require(cfg.backbone in BACKBONES, "model.backbone", cfg.backbone, "vit or swin")
    return BACKBONES[cfg.backbone](cfg, grid)


def _vit(cfg: ConfigDict, grid: tuple[int, int]) -> Backbone:
    """ViT of BEiT's kind: one table of relative biases for all blocks, no absolute positions."""
    size = options.size(cfg.encoder, "model.encoder")
    patch = options.pair(cfg.patch_size, "model.patch_size")[0]
    geometry = {
        "image_size": options.pair(cfg.image_size, "model.image_size"),
        "patch_size": patch,
        "channels": cfg.channels,
        "dim": size.dim,
        "depth": size.depth,
        "heads": size.heads,
        "mlp_hidden": size.mlp_hidden,
        "position": "none",
        "relative": "shared",
        "qkv_bias": "query_value",
        "layer_scale": cfg.layer_scale > 0,
        "mask_token": True,
        "pixel_head": True,
        "eps": cfg.norm_eps,
    }
    # The official code cuts at +-std, not at +-2 std.
    cut = initializers.truncated(cfg.init_std)
    inits = {"token_init": cut, "patch_init": cut, "layer_scale": cfg.layer_scale or 1.0}
    encoder = VariantEncoder(
        Geometry(**geometry), options.compute(cfg), cfg.drop_path, **inits, parent=None
    )

    def start(params: Tree, key: Array) -> Tree:
        params = initializers.redrawn(params, key, cut, LINEAR)
        return {**params, "blocks": initializers.rescaled_by_depth(params["blocks"])}

    num = math.prod(grid)
    total = flops.linear(num, patch**2 * cfg.channels, size.dim) + flops.transformer(num + 1, size)
    groups = (("^encoder/cls_token$", "no_decay"),)  # of the tokens this one only
    facts = (start, vit.layer_ids(size.depth), groups, total, geometry)
    return Backbone(encoder, size.dim, 1, 1, size.depth, ("block",), *facts)


def _swin(cfg: ConfigDict, grid: tuple[int, int]) -> Backbone:
    """Swin, its patch norm before the mask token."""
    size = options.swin_size(cfg.swin, "model.swin")
    try:
        size.grids(grid)
    except ValueError as error:
        require(False, "model.swin.window", size.window, f"on patches {grid}: {error}")
    patch_dim = options.pair(cfg.patch_size, "model.patch_size")[0] ** 2 * cfg.channels
    encoder = SwinEncoder(
        size, grid, patch_dim, options.compute(cfg), True, cfg.drop_path, cfg.norm_eps, parent=None
    )
    normal = nn.initializers.normal(cfg.init_std)
    start = lambda params, key: initializers.redrawn(params, key, normal, LINEAR)  # noqa: E731
    taps = [f"{stage}/block" for stage in range(len(size.depths))]
    taps += [f"{stage}/merge" for stage in range(len(size.depths) - 1)]
    groups = (("^encoder/mask_token$", "no_decay"),)
    total = swin.forward_flops(size, grid, patch_dim)
    geometry = SwinGeometry(
        image_size=options.pair(cfg.image_size, "model.image_size"),
        patch_size=options.pair(cfg.patch_size, "model.patch_size")[0],
        channels=cfg.channels,
        embed_dim=size.dim,
        depths=size.depths,
        heads=size.heads,
        window=size.window,
        mlp_ratio=size.mlp_ratio,
        mask_token=True,
        pixel_head=True,
        eps=cfg.norm_eps,
    )
    facts = {"family": SwinGeometry.FAMILY, **dataclasses.asdict(geometry)}
    facts = (start, swin.layer_ids(size), groups, total, facts)
    return Backbone(
        encoder, size.num_features, 0, size.reduction, sum(size.depths), tuple(taps), *facts
    )


BACKBONES: dict[str, Callable[[ConfigDict, tuple[int, int]], Backbone]] = {
    "vit": _vit,
    "swin": _swin,
}
