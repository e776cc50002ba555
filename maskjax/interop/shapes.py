"""The parameter tree that a geometry describes, as shapes: the frozen names of maskjax."""

from dataclasses import dataclass

import numpy as np

from maskjax.interop.geometry import Geometry
from maskjax.interop.paths import unflatten

Shape = tuple[int, ...]
FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True)
class Leaf:
    """Shape and dtype of an array to come (``jax.ShapeDtypeStruct`` without jax)."""

    shape: Shape
    dtype: np.dtype = FLOAT32


def param_shapes(geometry: Geometry) -> dict[str, Shape]:
    """Path -> shape of every parameter of the model, blocks stacked along a leading depth axis."""
    g, patch = geometry, geometry.patch_size**2 * geometry.channels
    tokens = g.grid[0] * g.grid[1] + g.cls
    shapes = _dense("encoder/patch_embed", patch, g.dim)
    shapes |= {"encoder/cls_token": (g.dim,)} if g.cls else {}
    shapes |= {"encoder/pos_embed": (tokens, g.dim)} if g.position == "learned" else {}
    shapes |= _blocks("encoder/blocks", g.depth, g.dim, g.heads, g.mlp_hidden)
    shapes |= _norm("fc_norm" if g.pool == "gap" else "encoder/norm", g.dim)
    shapes |= _dense("head", g.dim, g.num_classes) if g.num_classes else {}
    return shapes | (_decoder(g, patch) if g.has_decoder else {})


def param_tree(geometry: Geometry) -> dict:
    """:func:`param_shapes` as a nested dict of float32 :class:`Leaf`."""
    return unflatten({path: Leaf(shape) for path, shape in param_shapes(geometry).items()})


def _decoder(g: Geometry, patch: int) -> dict[str, Shape]:
    return {
        **_dense("decoder/embed", g.dim, g.decoder_dim),
        "decoder/mask_token": (g.decoder_dim,),
        **_blocks(
            "decoder/blocks", g.decoder_depth, g.decoder_dim, g.decoder_heads, g.decoder_mlp_hidden
        ),
        **_norm("decoder/norm", g.decoder_dim),
        **_dense("decoder/pred", g.decoder_dim, patch),
    }


def _blocks(at: str, depth: int, dim: int, heads: int, hidden: int) -> dict[str, Shape]:
    head = dim // heads
    layer = {
        **_norm("norm1", dim),
        **{f"attn/{name}/kernel": (dim, heads, head) for name in ("query", "key", "value")},
        **{f"attn/{name}/bias": (heads, head) for name in ("query", "key", "value")},
        "attn/out/kernel": (heads, head, dim),
        "attn/out/bias": (dim,),
        **_norm("norm2", dim),
        **_dense("mlp/fc1", dim, hidden),
        **_dense("mlp/fc2", hidden, dim),
    }
    return {f"{at}/{path}": (depth, *shape) for path, shape in layer.items()}


def _dense(at: str, width_in: int, width_out: int) -> dict[str, Shape]:
    return {f"{at}/kernel": (width_in, width_out), f"{at}/bias": (width_out,)}


def _norm(at: str, width: int) -> dict[str, Shape]:
    return {f"{at}/scale": (width,), f"{at}/bias": (width,)}
