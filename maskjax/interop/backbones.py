"""The networks of `nn.families` beside their weights: how to build, shape and run each."""

import functools
from collections.abc import Mapping
from typing import Any

from maskjax.interop.paths import flatten
from maskjax.nn.families import Backbone, ConvNeXtGeometry, SwinGeometry

Shape = tuple[int, ...]


@functools.lru_cache(maxsize=64)
def param_shapes(geometry: Backbone) -> Mapping[str, Shape]:
    """Path -> shape of every parameter and running statistic, as the network itself says."""
    import jax
    import jax.numpy as jnp

    if isinstance(geometry, SwinGeometry):
        return _swin_shapes(geometry)
    model = _convnet(geometry)
    images = jax.ShapeDtypeStruct((1, *geometry.image_size, geometry.channels), jnp.float32)
    tree = jax.eval_shape(model.init, jax.random.key(0), images)
    return {path: tuple(leaf.shape) for path, leaf in flatten(tree).items()}


def run(geometry: Backbone, params: Any, images: Any) -> tuple[dict, dict]:
    """float[B, H, W, C], standardised -> outputs and what was seen on the way.

    Outputs are float32 {"tokens": [B, N, D], the last map in raster order (of a Swin after the
    final norm); "mean": [B, D] (of a ConvNeXt after the final norm, if there is one); "logits":
    [B, classes], with a classifier}; of convnets {"stage 1": [B, H', W', D], ...} is seen, of a
    Swin {"block 0.0": [B, N', D'], ...} by stage and block, and with a head to pixels
    "prediction" [B, H, W, C].
    """
    if isinstance(geometry, SwinGeometry):
        return _run_swin(geometry, params, images)
    import einops
    import jax.numpy as jnp

    result, seen = _convnet(geometry).apply(params, images)
    stages = {f"stage {s}": seen[f"stage{s}"][0] for s in range(1, len(geometry.blocks) + 1)}
    last = stages[f"stage {len(stages)}"].astype(jnp.float32)
    out = {"tokens": einops.rearrange(last, "b h w d -> b (h w) d"), "mean": seen["features"][0]}
    return out | ({"logits": result} if geometry.num_classes else {}), stages


def _convnet(g: Backbone) -> Any:
    if isinstance(g, ConvNeXtGeometry):
        from maskjax.nn.masked_convnext import MaskedConvNeXt

        scale = 1e-6 * g.layer_scale
        options = {"final_norm": g.final_norm, "eps": g.eps}
        return MaskedConvNeXt(g.widths, g.blocks, g.num_classes, g.patch_size, scale, **options)
    from maskjax.nn.masked_resnet import MaskedResNet

    return MaskedResNet(g.widths, g.blocks, g.num_classes, g.stem, g.expansion, eps=g.eps)


def _swin(g: SwinGeometry) -> Any:
    from maskjax.nn.swin import SwinEncoder, SwinSize

    size = SwinSize(g.embed_dim, g.depths, g.heads, g.window, g.mlp_ratio)
    values = g.patch_size**2 * g.channels
    return SwinEncoder(size, g.grids[0], values, with_mask=g.mask_token, eps=g.eps)


def _swin_shapes(g: SwinGeometry) -> Mapping[str, Shape]:
    import jax
    import jax.numpy as jnp

    rows, columns = g.grids[0]
    shape = (1, rows * columns, g.patch_size**2 * g.channels)
    patches = jax.ShapeDtypeStruct(shape, jnp.float32)
    tree = jax.eval_shape(_swin(g).init, jax.random.key(0), patches)["params"]
    head = {"head/kernel": (g.dim, g.num_classes), "head/bias": (g.num_classes,)}
    values = g.stride**2 * g.channels
    decoder = {"decoder/kernel": (g.dim, values), "decoder/bias": (values,)}
    found = {f"encoder/{path}": tuple(leaf.shape) for path, leaf in flatten(tree).items()}
    return found | (head if g.num_classes else {}) | (decoder if g.pixel_head else {})


def _run_swin(g: SwinGeometry, params: Any, images: Any) -> tuple[dict, dict]:
    import jax.numpy as jnp

    from maskjax.masking import patches
    from maskjax.nn.dense import Dense

    taps = [f"{s}/block" for s in range(len(g.depths))]
    encoder = {"params": params["encoder"]}
    x, seen = _swin(g).apply(encoder, patches.patchify(images, (g.patch_size,) * 2), taps=taps)
    blocks = {f"block {s}.{b}": x for s, t in enumerate(taps) for b, x in enumerate(seen[t])}
    out = {"tokens": x.astype(jnp.float32)}
    out["mean"] = out["tokens"].mean(1)
    if g.num_classes:
        out["logits"] = Dense(g.num_classes).apply({"params": params["head"]}, out["mean"])
    if g.pixel_head:
        values = Dense(g.stride**2 * g.channels).apply({"params": params["decoder"]}, out["tokens"])
        blocks["prediction"] = patches.unpatchify(values, g.grids[-1], (g.stride,) * 2)
    return out, blocks
