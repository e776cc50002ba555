"""Groups of rules that all ViT layouts repeat: linear layers, norms, block stacks, fixed tables."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from maskjax.interop.geometry import Geometry
from maskjax.interop.rules import Constant, Layout, Rule
from maskjax.interop.transforms import (
    HEAD_BIAS,
    HEAD_KERNEL,
    LINEAR,
    OUT_KERNEL,
    QKV_BIAS,
    QKV_KERNEL,
    TABLE,
    TOKEN,
    patch_conv,
)


@dataclass(frozen=True)
class BlockNames:
    """What a torch layout calls the parts of a pre-norm transformer block.

    ``qkv`` is one name where query, key and value are one fused layer, else three names.
    """

    norm1: str
    qkv: str | tuple[str, str, str]
    out: str
    norm2: str
    fc1: str
    fc2: str


TIMM_BLOCK = BlockNames("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")


def linear(ours: str, theirs: str) -> Layout:
    """A dense layer: kernel [D, E] and bias [E] <-> weight (E, D) and bias (E,)."""
    return (
        Rule(f"{ours}/kernel", f"{theirs}.weight", LINEAR),
        Rule(f"{ours}/bias", f"{theirs}.bias"),
    )


def norm(ours: str, theirs: str) -> Layout:
    """A LayerNorm: scale and bias [D] <-> weight and bias (D,)."""
    return Rule(f"{ours}/scale", f"{theirs}.weight"), Rule(f"{ours}/bias", f"{theirs}.bias")


def patch_embed(ours: str, theirs: str, geometry: Geometry) -> Layout:
    """The patch projection: kernel [P, D] <-> convolution weight (D, C, p, p), and its bias."""
    transform = patch_conv(geometry.patch_size, geometry.channels)
    return (
        Rule(f"{ours}/kernel", f"{theirs}.weight", transform),
        Rule(f"{ours}/bias", f"{theirs}.bias"),
    )


def attention(ours: str, theirs: str, names: BlockNames) -> Layout:
    """Query, key, value (fused or apart, as ``names`` says) and the output projection."""
    leaves = tuple(f"{ours}/{name}" for name in ("query", "key", "value"))
    kernels = tuple(f"{leaf}/kernel" for leaf in leaves)
    biases = tuple(f"{leaf}/bias" for leaf in leaves)
    out = (
        Rule(f"{ours}/out/kernel", f"{theirs}.{names.out}.weight", OUT_KERNEL),
        Rule(f"{ours}/out/bias", f"{theirs}.{names.out}.bias"),
    )
    if isinstance(names.qkv, str):
        weight, bias = (f"{theirs}.{names.qkv}.{kind}" for kind in ("weight", "bias"))
        return (Rule(kernels, weight, QKV_KERNEL), Rule(biases, bias, QKV_BIAS), *out)
    weights = zip(kernels, names.qkv, strict=True)
    shifts = zip(biases, names.qkv, strict=True)
    return (
        *(Rule(leaf, f"{theirs}.{name}.weight", HEAD_KERNEL) for leaf, name in weights),
        *(Rule(leaf, f"{theirs}.{name}.bias", HEAD_BIAS) for leaf, name in shifts),
        *out,
    )


def block_stack(ours: str, theirs: str, names: BlockNames) -> Layout:
    """All blocks of a stack: our stacked leaves under ``ours`` <-> keys under ``theirs``.

    ``theirs`` holds "{i}" ("blocks.{i}").
    """
    return (
        *norm(f"{ours}/norm1", f"{theirs}.{names.norm1}"),
        *attention(f"{ours}/attn", theirs, names),
        *norm(f"{ours}/norm2", f"{theirs}.{names.norm2}"),
        *linear(f"{ours}/mlp/fc1", f"{theirs}.{names.fc1}"),
        *linear(f"{ours}/mlp/fc2", f"{theirs}.{names.fc2}"),
    )


def token(ours: str, theirs: str) -> Rule:
    """A single learned token: [D] <-> (1, 1, D)."""
    return Rule(ours, theirs, TOKEN)


def position(theirs: str, geometry: Geometry) -> Rule | Constant:
    """The encoder's position table: a parameter when it is learned, else a checked constant."""
    if geometry.position == "learned":
        return Rule("encoder/pos_embed", theirs, TABLE)
    return sincos(theirs, geometry.grid, geometry.dim, geometry.cls)


def sincos(theirs: str, grid: tuple[int, int], dim: int, cls: bool) -> Constant:
    """A fixed 2-D sin-cos table (1, N, D), with a row of zeros in front when ``cls``."""
    return Constant(theirs, partial(_sincos, dim=dim, cls=cls), grid)


def _sincos(grid: tuple[int, int], dim: int, cls: bool) -> np.ndarray:
    from maskjax.nn.position import sincos_2d  # nn may load flax, which a table of names must not

    return sincos_2d(grid, dim, cls=cls)
