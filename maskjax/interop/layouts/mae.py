"""Official MAE pretraining files (He et al., CVPR 2022): encoder only, or encoder and decoder.

The released "pretrain" files hold the encoder only; those named "full" and the ones for pictures
hold the decoder too. Both position tables are stored there but fixed. Encoder names are timm's.
"""

from dataclasses import replace

from maskjax.interop.layouts import timm
from maskjax.interop.layouts.parts import (
    TIMM_BLOCK,
    block_stack,
    decoder_table,
    linear,
    norm,
    require_options,
    token,
)
from maskjax.interop.rules import Layout
from maskjax.nn.geometry import Geometry


def rules(geometry: Geometry) -> Layout:
    """Rules of the encoder with its final norm, and of the decoder when the geometry has one.

    Raises:
        UserError: The model has what MAE has not.
    """
    require_options("mae", geometry, ("final_norm",), "use layout timm.")
    pretraining = replace(geometry, pool="none", num_classes=0)
    return timm.rules(pretraining) + (_decoder(geometry) if geometry.has_decoder else ())


def _decoder(geometry: Geometry) -> Layout:
    return (
        token("decoder/mask_token", "mask_token"),
        decoder_table("decoder_pos_embed", geometry),
        *linear("decoder/embed", "decoder_embed"),
        *block_stack("decoder/blocks", "decoder_blocks.{i}", TIMM_BLOCK),
        *norm("decoder/norm", "decoder_norm"),
        *linear("decoder/pred", "decoder_pred"),
    )
