"""Small geometries and random parameter trees, written from the project's frozen names by hand."""

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from maskjax.interop import Geometry
from maskjax.interop.paths import unflatten
from maskjax.nn.families import AnyGeometry, ConvNeXtGeometry, ResNetGeometry, SwinGeometry

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


def shapes(g: AnyGeometry) -> dict[str, tuple[int, ...]]:
    """Path -> shape, spelled out and not shared with the package, which it checks."""
    spelled = {ResNetGeometry: resnet, SwinGeometry: swin, ConvNeXtGeometry: convnext}
    return spelled.get(type(g), vit)(g)


def swin(g: SwinGeometry) -> dict[str, tuple[int, ...]]:
    c, grid = g.embed_dim, [size // g.patch_size for size in g.image_size]
    tree = {"encoder/patch_embed/kernel": (g.patch_size**2 * g.channels, c)}
    names = ("patch_embed/bias", "patch_norm/scale", "patch_norm/bias")
    tree |= {f"encoder/{name}": (c,) for name in (*names, *(["mask_token"] * g.mask_token))}
    for s, (depth, heads) in enumerate(zip(g.depths, g.heads, strict=True)):
        at, side = f"encoder/stage{s}", min(*grid, g.window)
        tree |= stack(f"{at}/blocks", depth, c, heads, int(c * g.mlp_ratio))
        tree[f"{at}/blocks/relative"] = (depth, (2 * side - 1) ** 2, heads)
        if s < len(g.depths) - 1:
            tree |= {f"{at}/merge/norm/{name}": (4 * c,) for name in ("scale", "bias")}
            tree[f"{at}/merge/reduction/kernel"] = (4 * c, 2 * c)
            c, grid = 2 * c, [size // 2 for size in grid]
    tree |= {f"encoder/norm/{name}": (c,) for name in ("scale", "bias")}
    head = {"head/kernel": (c, g.num_classes), "head/bias": (g.num_classes,)}
    values = (g.patch_size * 2 ** (len(g.depths) - 1)) ** 2 * g.channels
    pixels = {"decoder/kernel": (c, values), "decoder/bias": (values,)}
    return tree | (head if g.num_classes else {}) | (pixels if g.pixel_head else {})


def convnext(g: ConvNeXtGeometry) -> dict[str, tuple[int, ...]]:
    tree, before, side = {}, g.channels, g.patch_size
    for s, (number, width) in enumerate(zip(g.blocks, g.widths, strict=True), 1):
        name, normed = ("stem", width) if s == 1 else (f"down{s}", before)
        tree |= {f"{name}/kernel": (side, side, before, width), f"{name}/bias": (width,)}
        tree |= {f"{name}_norm/{leaf}": (normed,) for leaf in ("scale", "bias")}
        for b in range(number):
            at, hidden = f"stage{s}_{b}", 4 * width
            tree |= {f"{at}/dwconv/kernel": (7, 7, 1, width), f"{at}/dwconv/bias": (width,)}
            tree |= {f"{at}/norm/{leaf}": (width,) for leaf in ("scale", "bias")}
            tree |= {f"{at}/mlp/fc1/kernel": (width, hidden), f"{at}/mlp/fc1/bias": (hidden,)}
            tree |= {f"{at}/mlp/fc2/kernel": (hidden, width), f"{at}/mlp/fc2/bias": (width,)}
            tree |= {f"{at}/scale": (width,)} if g.layer_scale else {}
        before, side = width, 2
    tree |= {f"norm/{leaf}": (before,) for leaf in ("scale", "bias")} if g.final_norm else {}
    head = {"head/kernel": (before, g.num_classes), "head/bias": (g.num_classes,)}
    return {f"params/{k}": v for k, v in (tree | (head if g.num_classes else {})).items()}


def resnet(g: ResNetGeometry) -> dict[str, tuple[int, ...]]:
    tree, before = conv_norm("stem", 7, g.channels, g.stem), g.stem
    for s, (number, width) in enumerate(zip(g.blocks, g.widths, strict=True), 1):
        for b in range(number):
            at, after = f"stage{s}_{b}", width * g.expansion
            tree |= conv_norm(f"{at}/layer1", 1, before, width)
            tree |= conv_norm(f"{at}/layer2", 3, width, width)
            tree |= conv_norm(f"{at}/layer3", 1, width, after)
            if before != after or (s > 1 and b == 0):
                tree |= conv_norm(f"{at}/shortcut", 1, before, after)
            before = after
    head = {"params/head/kernel": (before, g.num_classes), "params/head/bias": (g.num_classes,)}
    return tree | (head if g.num_classes else {})


def conv_norm(at, side, before, after):
    tree = {f"params/{at}/conv/kernel": (side, side, before, after)}
    tree |= {f"params/{at}/bn/{name}": (after,) for name in ("scale", "bias")}
    return tree | {f"batch_stats/{at}/bn/{name}": (after,) for name in ("mean", "var")}


def vit(g: Geometry) -> dict[str, tuple[int, ...]]:
    patch, tokens = g.patch_size * g.patch_size * g.channels, g.grid[0] * g.grid[1]
    if g.frames:
        patch, tokens = patch * g.tubelet, tokens * (g.frames // g.tubelet)
    offsets = (2 * g.grid[0] - 1) * (2 * g.grid[1] - 1) + (3 if g.cls else 0)
    tree = {
        "encoder/patch_embed/kernel": (patch, g.dim),
        **stack("encoder/blocks", g.depth, g.dim, g.heads, g.mlp_hidden),
    }
    if g.patch_bias:
        tree["encoder/patch_embed/bias"] = (g.dim,)
    for name in ("cls", "dist", "mask"):
        if getattr(g, {"cls": "cls"}.get(name, f"{name}_token")):
            tree[f"encoder/{name}_token"] = (g.dim,)
    if g.registers:
        tree["encoder/register_tokens"] = (g.registers, g.dim)
    if g.position == "learned":
        extra = g.cls + g.dist_token if g.prefix_positions else 0
        tree["encoder/pos_embed"] = (tokens + extra, g.dim)
    if g.pre_norm:
        tree |= {"encoder/pre_norm/scale": (g.dim,), "encoder/pre_norm/bias": (g.dim,)}
    for name in {"all": (), "query_value": ("key",), "none": ("query", "key", "value")}[g.qkv_bias]:
        del tree[f"encoder/blocks/attn/{name}/bias"]
    if g.mlp == "swiglu":
        tree["encoder/blocks/mlp/gate/kernel"] = (g.depth, g.dim, g.mlp_hidden)
        tree["encoder/blocks/mlp/gate/bias"] = (g.depth, g.mlp_hidden)
    if g.layer_scale:
        tree |= {f"encoder/blocks/ls{i}/scale": (g.depth, g.dim) for i in (1, 2)}
    if g.relative == "layer":
        tree["encoder/blocks/relative"] = (g.depth, offsets, g.heads)
    if g.relative == "shared":
        tree["encoder/relative"] = (offsets, g.heads)
    last = "fc_norm" if g.pool == "gap" else "encoder/norm"
    if g.pool == "gap" or g.final_norm:
        tree |= {f"{last}/scale": (g.dim,), f"{last}/bias": (g.dim,)}
    if g.num_classes:
        tree |= {"head/kernel": (g.dim, g.num_classes), "head/bias": (g.num_classes,)}
    if g.projection:
        tree["projection/kernel"] = (g.dim, g.projection)
    if g.pixel_head:
        tree |= {"decoder/kernel": (g.dim, patch), "decoder/bias": (patch,)}
    return tree | (decoder(g, patch) if g.decoder_dim else {})


def decoder(g: Geometry, patch: int) -> dict[str, tuple[int, ...]]:
    e = g.decoder_dim
    return {
        "decoder/embed/kernel": (g.dim, e),
        "decoder/embed/bias": (e,),
        "decoder/mask_token": (e,),
        **stack("decoder/blocks", g.decoder_depth, e, g.decoder_heads, g.decoder_mlp_hidden),
        "decoder/norm/scale": (e,),
        "decoder/norm/bias": (e,),
        "decoder/pred/kernel": (e, patch),
        "decoder/pred/bias": (patch,),
    }


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


def random_tree(g: AnyGeometry, seed: int = 0, dtype=np.float32) -> dict:
    """A tree of normal numbers."""
    rng = np.random.default_rng(seed)
    return unflatten({path: rng.normal(size=s).astype(dtype) for path, s in shapes(g).items()})


dtypes = st.sampled_from([np.float32, np.float16, ml_dtypes.bfloat16])


# Layout -> the values that its models may have, beside sizes.
BOOL, BIAS = (False, True), ("all", "none")
POSITIONS = ("sincos", "learned")
VIT = {"position": ("learned",), "qkv_bias": BIAS, "final_norm": BOOL}
DINOV2 = {**VIT, "layer_scale": BOOL, "mlp": ("plain", "swiglu"), "registers": (0, 2)}
CLIP = {**VIT, "pre_norm": BOOL, "patch_bias": BOOL, "projection": (0, 3)}
BEIT = {
    "position": ("none", "learned"),
    "qkv_bias": ("query_value",),
    "layer_scale": BOOL,
    "relative": ("none", "layer", "shared"),
    "mask_token": BOOL,
    "pool": ("none", "gap", "cls"),
    "cls": (True,),
}
VIDEO = {
    "position": ("sinusoid",),
    "qkv_bias": ("query_value", "none"),
    "frames": (4,),
    "tubelet": (1, 2),
    "cls": (False,),
    "pool": ("none", "gap"),
    "final_norm": BOOL,
}
VALUES = {
    "mae": {"position": POSITIONS, "cls": BOOL},
    "mmpretrain": {"position": ("sincos_rows", "learned"), "cls": BOOL},
    "classify": {"position": POSITIONS, "cls": BOOL, "pool": ("cls", "gap")},
    "timm": {
        **DINOV2,
        "pre_norm": BOOL,
        "patch_bias": BOOL,
        "dist_token": BOOL,
        "prefix_positions": BOOL,
        "cls": BOOL,
        "pool": ("none", "cls", "gap"),
        "activation": ("gelu", "quick_gelu"),
    },
    **{name: {"position": POSITIONS} for name in ("hf", "hf5", "hf5saved")},
    "hf_vit": {**VIT, "dist_token": BOOL, "pool": ("none", "cls")},
    "dinov2": {**DINOV2, "mask_token": BOOL},
    "hf_dinov2": {**DINOV2, "mask_token": BOOL},
    "clip": CLIP,
    "hf_clip": CLIP,
    "beit": BEIT,
    "pretraining": {
        **BEIT,
        "pool": ("none",),
        "position": ("none", "learned", "sincos_rows"),
        "pixel_head": BOOL,
    },
    "hf_beit": BEIT,
    "hf_videomae": VIDEO,
}
WITH_DECODER = ("mae", "mmpretrain", "hf", "hf5", "hf5saved")


@st.composite
def geometries(draw, layout: str = "mae") -> AnyGeometry:
    """Any small geometry that the layout can hold: all aspect ratios, 1 and 3 channels."""
    number = lambda low, high: draw(st.integers(low, high))  # noqa: E731
    if layout == "resnet":
        return draw(resnets())
    if layout.endswith("swin"):
        return draw(swins(layout))
    if layout.endswith("convnext"):
        return draw(convnexts())
    patch, heads = number(1, 3), number(1, 3)
    values = {
        "image_size": (patch * number(1, 4), patch * number(1, 4)),
        "patch_size": patch,
        "channels": draw(st.sampled_from([1, 3])),
        "dim": heads * 4 * number(1, 2),
        "depth": number(1, 3),
        "heads": heads,
        "mlp_hidden": number(1, 9),
    }
    values |= {name: draw(st.sampled_from(given)) for name, given in VALUES[layout].items()}
    if values.get("pool") == "cls" or values.get("dist_token"):
        values["cls"] = True
    if values.get("pool", "none") != "none":
        values |= {"num_classes": number(0, 3), "final_norm": True}
    if layout == "timm" and values["registers"]:
        values["prefix_positions"] = False
    if layout in WITH_DECODER and draw(st.booleans()):
        decoder_heads = number(1, 3)
        values |= {
            "decoder_dim": decoder_heads * 4 * number(1, 2),
            "decoder_depth": number(1, 3),
            "decoder_heads": decoder_heads,
            "decoder_mlp_hidden": number(1, 9),
        }
    return Geometry(**values)


@st.composite
def resnets(draw) -> ResNetGeometry:
    number = lambda low, high: draw(st.integers(low, high))  # noqa: E731
    stages = number(1, 2)
    return ResNetGeometry(
        image_size=(32 * number(1, 2), 32),
        channels=draw(st.sampled_from([1, 3])),
        blocks=tuple(number(1, 2) for _ in range(stages)),
        widths=tuple(number(1, 3) for _ in range(stages)),
        stem=number(2, 6),
        expansion=number(2, 3),
        num_classes=number(0, 2),
    )


@st.composite
def convnexts(draw) -> ConvNeXtGeometry:
    number = lambda low, high: draw(st.integers(low, high))  # noqa: E731
    stages, patch, classes = number(1, 3), number(1, 4), number(0, 2)
    return ConvNeXtGeometry(
        image_size=(patch * 2 ** (stages - 1), patch * 2 ** (stages - 1) * number(1, 2)),
        channels=draw(st.sampled_from([1, 3])),
        blocks=tuple(number(1, 2) for _ in range(stages)),
        widths=tuple(number(1, 3) for _ in range(stages)),
        patch_size=patch,
        layer_scale=draw(st.booleans()),
        final_norm=classes > 0 or draw(st.booleans()),
        num_classes=classes,
    )


@st.composite
def swins(draw, layout: str) -> SwinGeometry:
    number = lambda low, high: draw(st.integers(low, high))  # noqa: E731
    stages, patch, window = number(1, 2), number(1, 2), number(1, 2)
    whole = patch * window * 2 ** (stages - 1)
    heads = tuple(number(1, 2) for _ in range(stages))
    size = (whole * number(1, 2), whole * number(1, 2))
    masked = layout != "timm_swin" and draw(st.booleans())
    pixels = masked and draw(st.booleans())
    return SwinGeometry(
        image_size=size if layout != "timm_swin" else size[:1] * 2,
        patch_size=patch,
        channels=draw(st.sampled_from([1, 3])),
        embed_dim=2 * number(1, 2),
        depths=tuple(number(1, 2) for _ in range(stages)),
        heads=heads,
        window=window,
        mlp_ratio=float(number(1, 3)),
        mask_token=masked,
        pixel_head=pixels,
        num_classes=0 if pixels else number(0, 2),
    )
