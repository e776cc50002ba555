"""Small geometries and random parameter trees, written from the project's frozen names by hand."""

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from maskjax.interop import Geometry
from maskjax.interop.paths import unflatten

FULL = Geometry(
    image_size=(8, 12),
    patch_size=4,
    channels=3,
    dim=24,
    depth=2,
    heads=3,
    mlp_hidden=40,
    decoder_dim=16,
    decoder_depth=3,
    decoder_heads=2,
    decoder_mlp_hidden=24,
)


def shapes(g: Geometry) -> dict[str, tuple[int, ...]]:
    """Path -> shape, spelled out and not shared with the package, which it checks."""
    patch, tokens = g.patch_size * g.patch_size * g.channels, g.grid[0] * g.grid[1]
    tree = {
        "encoder/patch_embed/kernel": (patch, g.dim),
        "encoder/patch_embed/bias": (g.dim,),
        **stack("encoder/blocks", g.depth, g.dim, g.heads, g.mlp_hidden),
    }
    if g.cls:
        tree["encoder/cls_token"] = (g.dim,)
    if g.position == "learned":
        tree["encoder/pos_embed"] = (tokens + (1 if g.cls else 0), g.dim)
    last = "fc_norm" if g.pool == "gap" else "encoder/norm"
    tree |= {f"{last}/scale": (g.dim,), f"{last}/bias": (g.dim,)}
    if g.num_classes:
        tree |= {"head/kernel": (g.dim, g.num_classes), "head/bias": (g.num_classes,)}
    if g.decoder_dim:
        e = g.decoder_dim
        tree |= {
            "decoder/embed/kernel": (g.dim, e),
            "decoder/embed/bias": (e,),
            "decoder/mask_token": (e,),
            **stack("decoder/blocks", g.decoder_depth, e, g.decoder_heads, g.decoder_mlp_hidden),
            "decoder/norm/scale": (e,),
            "decoder/norm/bias": (e,),
            "decoder/pred/kernel": (e, patch),
            "decoder/pred/bias": (patch,),
        }
    return tree


def stack(at, depth, dim, heads, hidden):
    width = dim // heads
    tree = {}
    for norm in ("norm1", "norm2"):
        tree |= {f"{at}/{norm}/scale": (depth, dim), f"{at}/{norm}/bias": (depth, dim)}
    for name in ("query", "key", "value"):
        tree[f"{at}/attn/{name}/kernel"] = (depth, dim, heads, width)
        tree[f"{at}/attn/{name}/bias"] = (depth, heads, width)
    tree[f"{at}/attn/out/kernel"] = (depth, heads, width, dim)
    tree[f"{at}/attn/out/bias"] = (depth, dim)
    tree |= {f"{at}/mlp/fc1/kernel": (depth, dim, hidden), f"{at}/mlp/fc1/bias": (depth, hidden)}
    tree |= {f"{at}/mlp/fc2/kernel": (depth, hidden, dim), f"{at}/mlp/fc2/bias": (depth, dim)}
    return tree


def random_tree(g: Geometry, seed: int = 0, dtype=np.float32) -> dict:
    """A tree of normal numbers."""
    rng = np.random.default_rng(seed)
    return unflatten({path: rng.normal(size=s).astype(dtype) for path, s in shapes(g).items()})


dtypes = st.sampled_from([np.float32, np.float16, ml_dtypes.bfloat16])


@st.composite
def geometries(draw, layout: str = "mae") -> Geometry:
    """Any small geometry that the layout can hold: all aspect ratios, 1 and 3 channels."""
    number = lambda low, high: draw(st.integers(low, high))  # noqa: E731
    patch, heads, decoder_heads = number(1, 3), number(1, 3), number(1, 3)
    hub = layout.startswith("hf")
    pools = {"timm": ["none", "cls", "gap"], "classify": ["cls", "gap"]}.get(layout, ["none"])
    pool = draw(st.sampled_from(pools))
    values = {
        "image_size": (patch * number(1, 4), patch * number(1, 4)),
        "patch_size": patch,
        "channels": draw(st.sampled_from([1, 3])),
        "dim": heads * 4 * number(1, 2),
        "depth": number(1, 3),
        "heads": heads,
        "mlp_hidden": number(1, 9),
        "position": draw(st.sampled_from(["sincos", "learned"])),
        "cls": True if hub or pool == "cls" else draw(st.booleans()),
        "pool": pool,
        "num_classes": 0 if pool == "none" else number(0, 3),
    }
    if pool == "none" and layout != "timm" and draw(st.booleans()):
        values |= {
            "decoder_dim": decoder_heads * 4 * number(1, 2),
            "decoder_depth": number(1, 3),
            "decoder_heads": decoder_heads,
            "decoder_mlp_hidden": number(1, 9),
        }
    return Geometry(**values)
