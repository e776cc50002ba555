"""The networks of `nn.families` beside their weights: how to build, shape and run each."""

import functools
from collections.abc import Mapping
from typing import Any

from maskjax.interop.paths import flatten
from maskjax.nn.families import ResNetGeometry

Shape = tuple[int, ...]


@functools.lru_cache(maxsize=64)
def param_shapes(geometry: ResNetGeometry) -> Mapping[str, Shape]:
    """Path -> shape of every parameter and running statistic, as the network itself says."""
    import jax
    import jax.numpy as jnp

    model = _resnet(geometry)
    images = jax.ShapeDtypeStruct((1, *geometry.image_size, geometry.channels), jnp.float32)
    tree = jax.eval_shape(model.init, jax.random.key(0), images)
    return {path: tuple(leaf.shape) for path, leaf in flatten(tree).items()}


def run(geometry: ResNetGeometry, params: Any, images: Any) -> tuple[dict, dict]:
    """float[B, H, W, C], standardised -> outputs and {"stage 1": [B, H', W', D], ...}.

    Outputs are float32 {"tokens": [B, N, D], the last map in raster order; "mean": [B, D];
    "logits": [B, classes], with a classifier}.
    """
    import einops
    import jax.numpy as jnp

    result, seen = _resnet(geometry).apply(params, images)
    stages = {f"stage {s}": seen[f"stage{s}"][0] for s in range(1, len(geometry.blocks) + 1)}
    last = stages[f"stage {len(stages)}"].astype(jnp.float32)
    out = {"tokens": einops.rearrange(last, "b h w d -> b (h w) d"), "mean": seen["features"][0]}
    return out | ({"logits": result} if geometry.num_classes else {}), stages


def _resnet(g: ResNetGeometry) -> Any:
    from maskjax.nn.masked_resnet import MaskedResNet

    return MaskedResNet(g.widths, g.blocks, g.num_classes, g.stem, g.expansion, eps=g.eps)
