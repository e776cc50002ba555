"""Groups of rules that all ViT layouts repeat: linear layers, norms, block stacks, fixed tables."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from maskjax.errors import UserError
from maskjax.interop.rules import Constant, Layout, Resize, Rule
from maskjax.interop.transforms import (
    GATED_BIAS,
    GATED_KERNEL,
    HEAD_BIAS,
    HEAD_KERNEL,
    IDENTITY,
    LINEAR,
    OUT_KERNEL,
    QKV_BIAS,
    QKV_KERNEL,
    TABLE,
    TOKEN,
    Transform,
    patch_conv,
    pixel_head,
)
from maskjax.nn.geometry import SINCOS, Geometry

BIASED = {"all": (0, 1, 2), "query_value": (0, 2), "none": ()}
QKV = ("query", "key", "value")


@dataclass(frozen=True)
class BlockNames:
    """What a torch layout calls the parts of a pre-norm transformer block.

    Attributes:
        norm1, out, norm2, fc1, fc2: Layers, each with ".weight" and ".bias".
        qkv: One name where query, key and value are one fused layer, else three names.
        weight, bias: What is put behind the names of ``qkv`` ("in_proj_weight" has no dot).
        biases: Whole names of the biases where they are apart from their fused layer.
        scales: Names of the two branches' channel factors; () where the layout has none.
        gate: Name of the layer that holds gate and fc1 of a SwiGLU, in that order; fc2 is
            ``gate_out`` there. "" where the layout has none.
        relative: Name of a layer's relative bias table; "" where the layout has none.
    """

    norm1: str
    qkv: str | tuple[str, str, str]
    out: str
    norm2: str
    fc1: str
    fc2: str
    weight: str = ".weight"
    bias: str = ".bias"
    biases: tuple[str, str, str] | tuple[()] = ()
    scales: tuple[str, str] | tuple[()] = ()
    gate: str = ""
    gate_out: str = ""
    relative: str = ""


TIMM_BLOCK = BlockNames(
    "norm1",
    "attn.qkv",
    "attn.proj",
    "norm2",
    "mlp.fc1",
    "mlp.fc2",
    scales=("ls1.gamma", "ls2.gamma"),
    gate="mlp.fc1",
    gate_out="mlp.fc2",
)


def linear(ours: str, theirs: str, *, bias: bool = True) -> Layout:
    """A dense layer: kernel [D, E] and bias [E] <-> weight (E, D) and bias (E,)."""
    kernel = Rule(f"{ours}/kernel", f"{theirs}.weight", LINEAR)
    return (kernel, Rule(f"{ours}/bias", f"{theirs}.bias")) if bias else (kernel,)


def norm(ours: str, theirs: str) -> Layout:
    """A LayerNorm: scale and bias [D] <-> weight and bias (D,)."""
    return Rule(f"{ours}/scale", f"{theirs}.weight"), Rule(f"{ours}/bias", f"{theirs}.bias")


def patch_embed(ours: str, theirs: str, geometry: Geometry) -> Layout:
    """The patch projection: kernel [P, D] <-> (D, C, p, p) or (D, C, u, p, p), and its bias."""
    tubelet = geometry.tubelet if geometry.frames else 0
    transform = patch_conv(geometry.patch_size, geometry.channels, tubelet)
    kernel = Rule(f"{ours}/kernel", f"{theirs}.weight", transform)
    return (kernel, Rule(f"{ours}/bias", f"{theirs}.bias")) if geometry.patch_bias else (kernel,)


def pixel_decoder(ours: str, theirs: str, patch_size: int, channels: int) -> Layout:
    """SimMIM's decoder: a 1x1 convolution and a pixel shuffle there, one linear layer here."""
    kernel, bias = pixel_head(patch_size, channels)
    return Rule(f"{ours}/kernel", f"{theirs}.weight", kernel), Rule(
        f"{ours}/bias", f"{theirs}.bias", bias
    )


def attention(ours: str, theirs: str, names: BlockNames, biased: str = "all") -> Layout:
    """Query, key, value (fused or apart, as ``names`` says) and the output projection.

    ``biased`` is ``Geometry.qkv_bias``.
    """
    kernels = tuple(f"{ours}/{name}/kernel" for name in QKV)
    which = BIASED[biased]
    biases = tuple(f"{ours}/{QKV[i]}/bias" for i in which)
    apart = names.biases or isinstance(names.qkv, tuple) or len(which) == 1
    rules: list[Rule] = []
    if isinstance(names.qkv, str):
        rules.append(Rule(kernels, f"{theirs}.{names.qkv}{names.weight}", QKV_KERNEL))
        keys = names.biases
    else:
        keys = tuple(f"{name}{names.bias}" for name in names.qkv)
        pairs = zip(kernels, names.qkv, strict=True)
        rules += (Rule(leaf, f"{theirs}.{n}{names.weight}", HEAD_KERNEL) for leaf, n in pairs)
        keys = names.biases or keys
    if apart:
        pairs = zip(biases, which, strict=True)
        rules += (Rule(leaf, f"{theirs}.{keys[i]}", HEAD_BIAS) for leaf, i in pairs)
    elif biases:
        rules.append(Rule(biases, f"{theirs}.{names.qkv}{names.bias}", QKV_BIAS))
    out = (
        Rule(f"{ours}/out/kernel", f"{theirs}.{names.out}.weight", OUT_KERNEL),
        Rule(f"{ours}/out/bias", f"{theirs}.{names.out}.bias"),
    )
    return (*rules, *out)


def block_stack(ours: str, theirs: str, names: BlockNames) -> Layout:
    """All plain blocks of a stack: our stacked leaves under ``ours`` <-> keys under ``theirs``.

    ``theirs`` holds "{i}" ("blocks.{i}").
    """
    return (
        *norm(f"{ours}/norm1", f"{theirs}.{names.norm1}"),
        *attention(f"{ours}/attn", theirs, names),
        *norm(f"{ours}/norm2", f"{theirs}.{names.norm2}"),
        *linear(f"{ours}/mlp/fc1", f"{theirs}.{names.fc1}"),
        *linear(f"{ours}/mlp/fc2", f"{theirs}.{names.fc2}"),
    )


def encoder_blocks(theirs: str, names: BlockNames, geometry: Geometry) -> Layout:
    """All blocks of an encoder, with the options of its geometry.

    Raises:
        UserError: The layout has no name for an option.
    """
    g, ours = geometry, "encoder/blocks"
    wanted = (
        ("layer_scale", g.layer_scale, names.scales),
        ("mlp='swiglu'", g.mlp == "swiglu", names.gate),
        ("relative='layer'", g.relative == "layer", names.relative),
        ("qkv_bias='query_value'", g.qkv_bias == "query_value", _splits(names)),
    )
    for option, asked, there in wanted:
        if asked and not there:
            raise UserError(f"this layout has no keys for geometry {option}.")
    rules = [
        *norm(f"{ours}/norm1", f"{theirs}.{names.norm1}"),
        *attention(f"{ours}/attn", theirs, names, g.qkv_bias),
        *norm(f"{ours}/norm2", f"{theirs}.{names.norm2}"),
        *_mlp(f"{ours}/mlp", theirs, names, g),
    ]
    if g.layer_scale:
        rules += (Rule(f"{ours}/ls{i}/scale", f"{theirs}.{names.scales[i - 1]}") for i in (1, 2))
    if g.relative == "layer":
        rules.append(relative(f"{ours}/relative", f"{theirs}.{names.relative}", g))
    return tuple(rules)


def _splits(names: BlockNames) -> bool:
    """Whether the layout can leave the key's bias out."""
    return bool(names.biases) or isinstance(names.qkv, tuple)


def _mlp(ours: str, theirs: str, names: BlockNames, geometry: Geometry) -> Layout:
    if geometry.mlp == "plain":
        first = linear(f"{ours}/fc1", f"{theirs}.{names.fc1}")
        return (*first, *linear(f"{ours}/fc2", f"{theirs}.{names.fc2}"))
    both = tuple(f"{ours}/{name}" for name in ("gate", "fc1"))
    kernels, biases = (tuple(f"{name}/{kind}" for name in both) for kind in ("kernel", "bias"))
    return (
        Rule(kernels, f"{theirs}.{names.gate}.weight", GATED_KERNEL),
        Rule(biases, f"{theirs}.{names.gate}.bias", GATED_BIAS),
        *linear(f"{ours}/fc2", f"{theirs}.{names.gate_out}"),
    )


def token(ours: str, theirs: str, transform: Transform = TOKEN) -> Rule:
    """A single learned token: [D] <-> (1, 1, D)."""
    return Rule(ours, theirs, transform)


def prefix_tokens(
    geometry: Geometry, names: dict[str, str], transforms: dict[str, Transform] | None = None
) -> Layout:
    """The tokens that the geometry has: our name ("cls_token", ...) -> their key.

    Raises:
        UserError: The layout has no name for one.
    """
    g, shapes = geometry, transforms or {}
    there = {"cls_token": g.cls, "dist_token": g.dist_token, "mask_token": g.mask_token}
    there["register_tokens"] = g.registers > 0
    lost = [name for name, has in there.items() if has and name not in names]
    if lost:
        raise UserError(f"this layout has no key for encoder/{lost[0]}.")
    default = {"register_tokens": TABLE}
    return tuple(
        Rule(f"encoder/{name}", names[name], shapes.get(name, default.get(name, TOKEN)))
        for name, has in there.items()
        if has
    )


def position(theirs: str, geometry: Geometry, transform: Transform = TABLE) -> Layout:
    """The encoder's position table: a parameter when it is learned, else a checked constant.

    VideoMAE's sinusoid and models without absolute positions have no key.
    """
    g = geometry
    if g.position == "learned":
        resize = None if g.frames else Resize("table", g.grid, g.prefix_rows)
        return (Rule("encoder/pos_embed", theirs, transform, resize),)
    first = SINCOS.get(g.position)
    return (sincos(theirs, g.grid, g.dim, g.cls, first, transform),) if first else ()


def relative(ours: str, theirs: str, geometry: Geometry) -> Rule:
    """A relative bias table [T, H], the same in both."""
    return Rule(ours, theirs, IDENTITY, Resize("relative", geometry.grid, 3 * geometry.cls))


def sincos(
    theirs: str,
    grid: tuple[int, int],
    dim: int,
    cls: bool,
    first: str = "column",
    transform: Transform = TABLE,
) -> Constant:
    """A fixed 2-D sin-cos table (1, N, D), with a row of zeros in front when ``cls``."""
    return Constant(theirs, partial(_sincos, dim=dim, cls=cls, first=first), grid, transform)


def decoder_table(theirs: str, geometry: Geometry, cls: bool | None = None) -> Constant:
    """The fixed table of MAE's decoder, with the encoder's axis first where that is fixed, too.

    ``cls`` is whether there is a row for it; default: whether the geometry has one.
    """
    g = geometry
    cls = g.cls if cls is None else cls
    return sincos(theirs, g.grid, g.decoder_dim, cls, SINCOS.get(g.position, "column"))


def _sincos(grid: tuple[int, int], dim: int, cls: bool, first: str) -> np.ndarray:
    from maskjax.nn.position import sincos_2d  # nn may load flax, which a table of names must not

    return sincos_2d(grid, dim, cls=cls, first=first)


def head(geometry: Geometry, theirs: str) -> Layout:
    """The classifier, where the geometry has one."""
    return linear("head", theirs) if geometry.num_classes else ()


def require_options(layout: str, geometry: Geometry, allowed: tuple[str, ...], advice: str) -> None:
    """Refuse what a layout cannot hold.

    Raises:
        UserError: An option that is not ``allowed`` differs from the default.
    """
    lost = geometry.unusual(allowed)
    if lost:
        raise UserError(f"layout {layout}: cannot hold {', '.join(lost)}; {advice}")
