"""Official HPM files: MAE's names, and a second decoder with "_losspred" in its names."""

from maskjax.interop.layouts import mae
from maskjax.interop.layouts.parts import TIMM_BLOCK, block_stack, linear, norm
from maskjax.interop.rules import Layout
from maskjax.nn.geometry import Geometry


def rules(geometry: Geometry) -> Layout:
    """Rules of encoder, pixel decoder and loss predictor."""
    return (
        *mae.rules(geometry),
        *block_stack("losspred/blocks", "decoder_blocks_losspred.{i}", TIMM_BLOCK),
        *norm("losspred/norm", "decoder_norm_losspred"),
        *linear("losspred/pred", "decoder_pred_losspred"),
    )
