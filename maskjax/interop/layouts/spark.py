"""SparK's pretraining files: sparse encoder, densify, decoder, under the official names.

Ours is the tree that `Method.weights` makes of a run of `mim.spark`. Files of the backbone alone
are those of the layouts resnet and convnext.
"""

from maskjax.interop.layouts import convnext, resnet
from maskjax.interop.layouts.parts import norm
from maskjax.interop.layouts.resnet import CONV
from maskjax.interop.rules import Layout, Rule
from maskjax.interop.transforms import Transform, rearranged
from maskjax.nn.families import Backbone, ConvNeXtGeometry

ENCODER = "sparse_encoder.sp_cnn."
# Counters, and buffers of older files.
UNUSED = (*resnet.UNUSED, "imn_m", "imn_s", "norm_black")
TOKEN = rearranged("token of a map", "c", "1 c 1 1")
_SWAP = rearranged("transposed convolution", "r c i o", "i o r c")
# Theirs is the kernel of the convolution whose gradient this is: turned by 180 degrees.
UP = Transform(
    _SWAP.name,
    lambda leaf: _SWAP.to_torch(leaf[::-1, ::-1]),
    lambda array, shape: (_SWAP.from_torch(array, shape)[0][::-1, ::-1],),
)


def rules(geometry: Backbone, num_blocks: int, *, projected: bool = True) -> Layout:
    """Rules of a whole file.

    Args:
        geometry: of the encoder.
        num_blocks: of the decoder.
        projected: whether the deepest map has a projection (it has none where its channels are
            the decoder's).
    """
    if isinstance(geometry, ConvNeXtGeometry):
        lines, batch_norm = [*convnext.rules(geometry, prefix=ENCODER)], False
    else:
        options = {"shortcuts": geometry.shortcuts, "head": "", "prefix": ENCODER}
        lines, batch_norm = [*resnet.rules(geometry.blocks, **options)], True
    for i in range(len(geometry.blocks)):
        at, norms = f"densified/densify{i}", f"densify_norms.{i}"
        lines += norm(f"{at}/norm", norms)
        if batch_norm:
            lines += _running(f"densified_stats/densify{i}/norm", norms)
        lines.append(Rule(f"{at}/token", f"mask_tokens.{i}", TOKEN))
        if i or projected:
            lines += _conv(f"{at}/proj", f"densify_projs.{i}")
    for k in range(num_blocks):
        lines += _up_block(f"up{k}", f"dense_decoder.dec.{k}")
    return (*lines, *_conv("light_decoder/proj", "dense_decoder.proj"))


def _up_block(ours: str, theirs: str) -> Layout:
    lines = [
        Rule(f"light_decoder/{ours}/up/kernel", f"{theirs}.up_sample.weight", UP),
        Rule(f"light_decoder/{ours}/up/bias", f"{theirs}.up_sample.bias"),
    ]
    for number, place in (("1", 0), ("2", 3)):
        kernel = f"light_decoder/{ours}/conv{number}/kernel"
        lines.append(Rule(kernel, f"{theirs}.conv.{place}.weight", CONV))
        lines += norm(f"light_decoder/{ours}/norm{number}", f"{theirs}.conv.{place + 1}")
        lines += _running(f"light_decoder_stats/{ours}/norm{number}", f"{theirs}.conv.{place + 1}")
    return tuple(lines)


def _running(ours: str, theirs: str) -> Layout:
    return (
        Rule(f"{ours}/mean", f"{theirs}.running_mean"),
        Rule(f"{ours}/var", f"{theirs}.running_var"),
    )


def _conv(ours: str, theirs: str) -> Layout:
    return (
        Rule(f"{ours}/kernel", f"{theirs}.weight", CONV),
        Rule(f"{ours}/bias", f"{theirs}.bias"),
    )
