"""The parameter tree that a geometry describes, as shapes: the frozen names of maskjax."""

from dataclasses import dataclass

import numpy as np

from maskjax.interop import backbones
from maskjax.interop.paths import unflatten
from maskjax.nn.families import AnyGeometry
from maskjax.nn.geometry import Geometry

Shape = tuple[int, ...]
FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True)
class Leaf:
    """Shape and dtype of an array to come (``jax.ShapeDtypeStruct`` without jax)."""

    shape: Shape
    dtype: np.dtype = FLOAT32


def param_shapes(geometry: AnyGeometry) -> dict[str, Shape]:
    """Path -> shape of every parameter of the model, blocks stacked along a leading depth axis."""
    if not isinstance(geometry, Geometry):
        return dict(backbones.param_shapes(geometry))
    g = geometry
    shapes = _embeddings(g) | _blocks("encoder/blocks", _layer(g), g.depth)
    if g.relative == "shared":
        shapes["encoder/relative"] = (g.relative_rows, g.heads)
    if g.pool == "gap":
        shapes |= _norm("fc_norm", g.dim)
    elif g.has_norm:
        shapes |= _norm("encoder/norm", g.dim)
    shapes |= _dense("head", g.dim, g.num_classes) if g.num_classes else {}
    shapes |= {"projection/kernel": (g.dim, g.projection)} if g.projection else {}
    shapes |= _dense("decoder", g.dim, g.patch_values) if g.pixel_head else {}
    return shapes | (_decoder(g) if g.has_decoder else {})


def param_tree(geometry: AnyGeometry) -> dict:
    """:func:`param_shapes` as a nested dict of float32 :class:`Leaf`."""
    return unflatten({path: Leaf(shape) for path, shape in param_shapes(geometry).items()})


def _embeddings(g: Geometry) -> dict[str, Shape]:
    shapes = _dense("encoder/patch_embed", g.patch_values, g.dim, bias=g.patch_bias)
    tokens = {"cls_token": g.cls, "dist_token": g.dist_token, "mask_token": g.mask_token}
    shapes |= {f"encoder/{name}": (g.dim,) for name, there in tokens.items() if there}
    if g.registers:
        shapes["encoder/register_tokens"] = (g.registers, g.dim)
    if g.position == "learned":
        shapes["encoder/pos_embed"] = (g.prefix_rows + g.num_patches, g.dim)
    return shapes | (_norm("encoder/pre_norm", g.dim) if g.pre_norm else {})


def _layer(g: Geometry) -> dict[str, Shape]:
    """One block of the encoder."""
    biased = {"all": ("query", "key", "value"), "query_value": ("query", "value"), "none": ()}
    layer = _plain_layer(g.dim, g.heads, g.mlp_hidden, biased[g.qkv_bias])
    layer |= _dense("mlp/gate", g.dim, g.mlp_hidden) if g.mlp == "swiglu" else {}
    layer |= {"ls1/scale": (g.dim,), "ls2/scale": (g.dim,)} if g.layer_scale else {}
    layer |= {"relative": (g.relative_rows, g.heads)} if g.relative == "layer" else {}
    return layer


def _decoder(g: Geometry) -> dict[str, Shape]:
    layer = _plain_layer(g.decoder_dim, g.decoder_heads, g.decoder_mlp_hidden)
    return {
        **_dense("decoder/embed", g.dim, g.decoder_dim),
        "decoder/mask_token": (g.decoder_dim,),
        **_blocks("decoder/blocks", layer, g.decoder_depth),
        **_norm("decoder/norm", g.decoder_dim),
        **_dense("decoder/pred", g.decoder_dim, g.patch_values),
    }


def _plain_layer(
    dim: int, heads: int, hidden: int, biased: tuple[str, ...] = ("query", "key", "value")
) -> dict[str, Shape]:
    head = dim // heads
    return {
        **_norm("norm1", dim),
        **{f"attn/{name}/kernel": (dim, heads, head) for name in ("query", "key", "value")},
        **{f"attn/{name}/bias": (heads, head) for name in biased},
        "attn/out/kernel": (heads, head, dim),
        "attn/out/bias": (dim,),
        **_norm("norm2", dim),
        **_dense("mlp/fc1", dim, hidden),
        **_dense("mlp/fc2", hidden, dim),
    }


def _blocks(at: str, layer: dict[str, Shape], depth: int) -> dict[str, Shape]:
    return {f"{at}/{path}": (depth, *shape) for path, shape in layer.items()}


def _dense(at: str, width_in: int, width_out: int, *, bias: bool = True) -> dict[str, Shape]:
    kernel = {f"{at}/kernel": (width_in, width_out)}
    return kernel | ({f"{at}/bias": (width_out,)} if bias else {})


def _norm(at: str, width: int) -> dict[str, Shape]:
    return {f"{at}/scale": (width,), f"{at}/bias": (width,)}
