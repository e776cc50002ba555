"""Official MultiMAE files: adapters of inputs, encoder, adapters of outputs."""

from collections.abc import Sequence

from maskjax.interop.layouts.parts import TIMM_BLOCK, block_stack, linear, norm, sincos
from maskjax.interop.rules import Layout, Rule
from maskjax.interop.transforms import (
    HEAD_BIAS,
    HEAD_KERNEL,
    OUT_KERNEL,
    QKV_BIAS,
    QKV_KERNEL,
    TABLE,
    TOKEN,
    Transform,
    patch_conv,
    rearranged,
)

Grid = tuple[int, int]


def rules(
    grid: Grid,
    dims: tuple[int, int],
    inputs: Sequence[tuple[str, int, int, bool]],
    tasks: Sequence[tuple[str, int, int]],
) -> Layout:
    """Rules of the whole network.

    Args:
        grid: (rows, columns) of patches.
        dims: width of the encoder, of the decoders.
        inputs: (modality, patch side in its own pixels, channels or width of the class embedding,
            whether it has one).
        tasks: (task, patch side, channels or classes).
    """
    names = [name for name, *_ in inputs]
    return (
        Rule("encoder/global_tokens", "global_tokens", TABLE),
        *(rule for given in inputs for rule in _input(grid, dims[0], *given)),
        *block_stack("encoder/blocks", "encoder.{i}", TIMM_BLOCK),
        *(rule for given in tasks for rule in _output(grid, dims[1], names, *given)),
    )


def _input(grid: Grid, dim: int, name: str, side: int, values: int, embedded: bool) -> Layout:
    theirs = f"input_adapters.{name}"
    table = Rule(f"encoder/{name}_classes", f"{theirs}.class_emb.weight")
    return (
        sincos(f"{theirs}.pos_emb", grid, dim, False, "row", _map(grid)),
        *((table,) if embedded else ()),
        Rule(f"encoder/{name}_proj/kernel", f"{theirs}.proj.weight", patch_conv(side, values)),
        Rule(f"encoder/{name}_proj/bias", f"{theirs}.proj.bias"),
    )


def _output(
    grid: Grid, dim: int, names: Sequence[str], task: str, side: int, values: int
) -> Layout:
    ours, theirs = f"decoder_{task}", f"output_adapters.{task}"
    attn = f"{ours}/cross/attn"
    kernel, bias = _channels_first(side, values)
    return (
        Rule(f"{ours}/mask_token", f"{theirs}.mask_token", TOKEN),
        sincos(f"{theirs}.pos_emb", grid, dim, False, "row", _map(grid)),
        *(Rule(f"{ours}/task_{n}", f"{theirs}.task_embeddings.{n}", TOKEN) for n in names),
        *linear(f"{ours}/embed", f"{theirs}.proj_context"),
        Rule(f"{attn}/query/kernel", f"{theirs}.decoder.q.weight", HEAD_KERNEL),
        Rule(f"{attn}/query/bias", f"{theirs}.decoder.q.bias", HEAD_BIAS),
        Rule(_both(attn, "kernel"), f"{theirs}.decoder.kv.weight", QKV_KERNEL),
        Rule(_both(attn, "bias"), f"{theirs}.decoder.kv.bias", QKV_BIAS),
        Rule(f"{attn}/out/kernel", f"{theirs}.decoder.proj.weight", OUT_KERNEL),
        Rule(f"{attn}/out/bias", f"{theirs}.decoder.proj.bias"),
        *norm(f"{ours}/cross/norm1_kv", f"{theirs}.context_norm"),
        *norm(f"{ours}/cross/norm1_q", f"{theirs}.query_norm"),
        *norm(f"{ours}/cross/norm2", f"{theirs}.out_norm"),
        *linear(f"{ours}/cross/mlp/fc1", f"{theirs}.mlp.fc1"),
        *linear(f"{ours}/cross/mlp/fc2", f"{theirs}.mlp.fc2"),
        *block_stack(f"{ours}/blocks", f"{theirs}.decoder_transformer.{{i}}", TIMM_BLOCK),
        Rule(f"{ours}/out/kernel", f"{theirs}.out_proj.weight", kernel),
        Rule(f"{ours}/out/bias", f"{theirs}.out_proj.bias", bias),
    )


def _both(attn: str, kind: str) -> tuple[str, str]:
    return f"{attn}/key/{kind}", f"{attn}/value/{kind}"


def _map(grid: Grid) -> Transform:
    """A table of positions as a feature map (1, D, rows, columns)."""
    return rearranged("table as a map", "(h w) d", "1 d h w", h=grid[0], w=grid[1])


def _channels_first(side: int, channels: int) -> tuple[Transform, Transform]:
    """Kernel and bias of a layer to the pixels of a patch, whose order there is (c, row, col)."""
    sizes = {"p": side, "q": side, "c": channels}
    kernel = rearranged("channels first", "d (p q c)", "(c p q) d", **sizes)
    return kernel, rearranged("channels first, bias", "(p q c)", "(c p q)", **sizes)
