"""timm's ``VisionTransformer``: the encoder of any size, with its final norm or with a classifier.

timm trains its position table, so a fixed table is stored there like a trained one; reading such a
file back into a sin-cos model checks that the table is still the fixed one. timm has no decoder.
"""

from maskjax.interop.geometry import Geometry
from maskjax.interop.layouts.parts import (
    TIMM_BLOCK,
    block_stack,
    linear,
    norm,
    patch_embed,
    position,
    token,
)
from maskjax.interop.rules import Layout


def rules(geometry: Geometry) -> Layout:
    """Rules of the encoder and classifier.

    With pool="gap" the mean of the patch tokens goes through ``fc_norm`` and there is no ``norm``
    (timm: ``global_pool="avg"``); else there is ``norm`` (timm: ``global_pool="token"``).
    """
    gap = geometry.pool == "gap"
    return (
        *((token("encoder/cls_token", "cls_token"),) if geometry.cls else ()),
        position("pos_embed", geometry),
        *patch_embed("encoder/patch_embed", "patch_embed.proj", geometry),
        *block_stack("encoder/blocks", "blocks.{i}", TIMM_BLOCK),
        *(norm("fc_norm", "fc_norm") if gap else norm("encoder/norm", "norm")),
        *(linear("head", "head") if geometry.num_classes else ()),
    )
