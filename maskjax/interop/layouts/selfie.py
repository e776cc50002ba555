"""Selfie's weights as the independent re-implementation names them: pre-activation P, and A.

Our tree is {"params": ..., "batch_stats": ...}. P in torchvision's form has the names of
`resnet.rules(blocks, head="")` below `patch_net` instead.
"""

from collections.abc import Sequence

from maskjax.interop.layouts.parts import BlockNames, attention, linear, norm
from maskjax.interop.layouts.resnet import CONV
from maskjax.interop.rules import Layout, Rule

UNUSED = ("*num_batches_tracked",)
TORCH_LAYER = BlockNames(
    "norm1",
    "self_attn.in_proj_",
    "self_attn.out_proj",
    "norm2",
    "linear1",
    "linear2",
    weight="weight",
    bias="bias",
)


def rules(blocks: Sequence[int], layers: int, shortcuts: Sequence[str] = ()) -> Layout:
    """Rules of a pre-activation P, of A with u0 of zeros, and of one position a place.

    Args:
        blocks: number of blocks of each stage.
        layers: of the attention pooling.
        shortcuts: blocks with a convolution in their shortcut; default the first of each stage.
    """
    shortcuts = tuple(shortcuts) or tuple(f"stage{s}_0" for s in range(1, len(blocks) + 1))
    lines = [Rule("params/patch_net/stem/kernel", "patch_net/conv1.weight", CONV)]
    for stage, number in enumerate(blocks, 1):
        for i in range(number):
            ours, theirs = f"stage{stage}_{i}", f"patch_net/layer{stage}.{i}"
            lines += _bottleneck(ours, theirs, ours in shortcuts)
    for i in range(layers):
        lines += _layer(f"params/attention_pool/layers_{i}", f"pool/encoder.layers.{i}")
    lines += norm("params/attention_pool/norm", "pool/encoder.norm")
    return (*lines, Rule("params/pos_embed", "pool/pos_embedding.weight"))


def _bottleneck(ours: str, theirs: str, shortcut: bool) -> Layout:
    lines = []
    for i in (1, 2, 3):
        at = f"patch_net/{ours}/bn{i}"
        lines += norm(f"params/{at}", f"{theirs}.bn{i}")
        lines.append(Rule(f"batch_stats/{at}/mean", f"{theirs}.bn{i}.running_mean"))
        lines.append(Rule(f"batch_stats/{at}/var", f"{theirs}.bn{i}.running_var"))
        kernel = f"params/patch_net/{ours}/conv{i}/kernel"
        lines.append(Rule(kernel, f"{theirs}.conv{i}.weight", CONV))
    if shortcut:
        kernel = f"params/patch_net/{ours}/shortcut/kernel"
        lines.append(Rule(kernel, f"{theirs}.shortcut.0.weight", CONV))
    return tuple(lines)


def _layer(ours: str, theirs: str) -> Layout:
    return (
        *attention(f"{ours}/attn", theirs, TORCH_LAYER),
        *norm(f"{ours}/norm1", f"{theirs}.norm1"),
        *norm(f"{ours}/norm2", f"{theirs}.norm2"),
        *linear(f"{ours}/fc1", f"{theirs}.linear1"),
        *linear(f"{ours}/fc2", f"{theirs}.linear2"),
    )
