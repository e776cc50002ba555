"""The layouts maskjax can read and write: name -> function of a geometry that gives the rules.

The order matters where two layouts have the same names (official MAE took timm's): the first wins.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from maskjax.errors import UserError
from maskjax.interop.layouts import (
    beit,
    classify,
    clip,
    convnext,
    dalle,
    hf,
    hf_vit,
    mae,
    mmpretrain,
    resnet,
    swin,
    timm,
)
from maskjax.interop.paths import names_of
from maskjax.interop.rules import Layout
from maskjax.nn.families import AnyGeometry, ConvNeXtGeometry, ResNetGeometry, SwinGeometry
from maskjax.nn.geometry import Geometry

LAYOUTS: Mapping[str, Callable[[AnyGeometry], Layout]] = {
    "mae": mae.rules,
    "classify": classify.rules,
    "mmpretrain": mmpretrain.rules,
    "timm": timm.rules,
    "hf": hf.rules,
    "hf5": hf.rules_memory,
    "hf5saved": hf.rules_saved,
    "hf_vit": hf_vit.rules,
    "dinov2": timm.rules_dinov2,
    "hf_dinov2": hf_vit.rules_dinov2,
    "clip": clip.rules,
    "hf_clip": clip.rules_hf,
    "beit": beit.rules,
    "pretraining": beit.rules_pretraining,
    "hf_beit": hf_vit.rules_beit,
    "hf_videomae": hf_vit.rules_videomae,
    "resnet": resnet.rules_of,
    "swin": swin.rules_official,
    "timm_swin": swin.rules_timm,
    "hf_swin": swin.rules_hf,
    "convnext": convnext.rules_official,
    "timm_convnext": convnext.rules_timm,
}
# Layouts of networks that are no plain ViT -> their geometries.
FAMILY: Mapping[str, type] = {
    "resnet": ResNetGeometry,
    **dict.fromkeys(("swin", "timm_swin", "hf_swin"), SwinGeometry),
    **dict.fromkeys(("convnext", "timm_convnext"), ConvNeXtGeometry),
}

# Layouts of what is no ViT: name -> function of the paths of our tree that gives the rules. Such
# files cannot be told by their geometry, so their format is always named.
TREES: Mapping[str, Callable[[Iterable[str]], Layout]] = {"dalle": dalle.rules}

# What a user asks for -> the layouts that this may mean when reading; the first is written.
FORMATS: Mapping[str, tuple[str, ...]] = {
    "mae": ("mae", "classify"),
    "timm": ("timm",),
    "hf": ("hf", "hf5", "hf5saved"),
    "mmpretrain": ("mmpretrain",),
    "deit": ("timm",),
    "dino": ("timm",),
    "hf_vit": ("hf_vit",),
    "hf_deit": ("hf_vit",),
    "dinov2": ("dinov2",),
    "hf_dinov2": ("hf_dinov2",),
    "clip": ("clip",),
    "hf_clip": ("hf_clip",),
    "beit": ("beit", "pretraining"),
    "simmim": ("pretraining", "beit"),
    "cae": ("pretraining", "beit"),
    "hf_beit": ("hf_beit",),
    "videomae": ("pretraining", "beit"),
    "hf_videomae": ("hf_videomae",),
    "resnet": ("resnet",),
    "swin": ("swin",),
    "timm_swin": ("timm_swin",),
    "hf_swin": ("hf_swin",),
    "convnext": ("convnext",),
    "timm_convnext": ("timm_convnext",),
}

SPARK = "sparse_encoder.sp_cnn."  # in front of the backbone in SparK's pretraining files

# The prefix that a layout's keys have -> others under which files hold the same keys. torch's
# DataParallel puts "module." in front of everything.
PREFIXES: Mapping[str, tuple[str, ...]] = {
    "hf": ("vit.", ""),
    "hf5": ("vit.", ""),
    "hf_vit": ("vit.", "deit.", ""),
    "hf_dinov2": ("", "dinov2.", "dinov2_with_registers."),
    "clip": ("visual.", ""),
    "hf_clip": ("vision_model.", ""),
    "pretraining": ("encoder.",),
    "hf_beit": ("beit.", ""),
    "hf_videomae": ("videomae.", ""),
    "swin": ("encoder.", ""),
    "hf_swin": ("swin.", ""),
    "resnet": ("", SPARK),
    "convnext": ("", SPARK),
}

# Keys that hold no weights, in files of any layout: indices that are computed, counters.
BUFFERS = (
    "*relative_position_index",
    "*position_ids",
    "*num_batches_tracked",
    "*attn_mask",
    "*attn.k_bias",
)

# What files of a layout hold beside an encoder: decoders, heads, text towers, pooled outputs.
TEXT_TOWER = ("transformer.*", "*token_embedding.*", "positional_embedding", "ln_final.*")
CLIP_REST = ("text_projection", "logit_scale", "input_resolution", "context_length", "vocab_size")
SPARK_REST = ("densify_*", "mask_tokens.*", "dense_decoder.*", "imn_*", "norm_black")
CAE_REST = ("rd_pos_embed", "alignment_encoder.*", "regresser.*", "encoder_to_regresser*")
DISTILL_REST = ("aligned_feature_projection_heads.*", "distill_*", "clip_model.*", "dino_model.*")
AROUND: Mapping[str, tuple[str, ...]] = {
    "mae": ("decoder_*", "mask_token", "head.*", *DISTILL_REST),
    "classify": ("head.*",),
    "mmpretrain": ("neck.*", "head.*"),
    "timm": ("decoder_*", "mask_token", "head.*", "head_dist.*", *DISTILL_REST),
    "hf": ("decoder.*",),
    "hf5": ("decoder.*",),
    "hf5saved": ("decoder.*",),
    "hf_vit": ("*pooler.dense.*", "classifier.*", "*_classifier.*"),
    "dinov2": ("head.*", "mask_token"),
    "hf_dinov2": ("classifier.*", "*mask_token"),
    "clip": (*TEXT_TOWER, *CLIP_REST, "visual.proj"),
    "hf_clip": ("text_model.*", "text_projection.*", "logit_scale", "visual_projection.*"),
    "beit": ("head.*", "lm_head.*", "mask_token"),
    "pretraining": ("decoder.*", "*mask_token", "encoder_to_decoder.*", "head.*", *CAE_REST),
    "hf_beit": ("classifier.*", "*mask_token", "lm_head.*", "layernorm.*"),
    "hf_videomae": ("decoder.*", "mask_token", "encoder_to_decoder.*", "classifier.*"),
    "resnet": ("fc.*", *SPARK_REST),
    "convnext": ("norm.*", "head.*", *SPARK_REST),
    "timm_convnext": ("head.*",),
    "swin": ("head.*", "decoder.*", "*mask_token"),
    "timm_swin": ("head.*",),
    "hf_swin": ("classifier.*", "decoder.*", "*mask_token"),
}


def rules_of(layout: str, geometry: AnyGeometry) -> Layout:
    """The rules of a layout under the names that are written.

    Raises:
        UserError: The layout cannot hold such a model.
    """
    require_family(layout, geometry)
    return LAYOUTS[layout](geometry)


def require_family(layout: str, geometry: AnyGeometry) -> None:
    """Refuses a network of another family than the layout's.

    Raises:
        UserError: It is one; the message names the formats that fit.
    """
    kind = _kind(layout)
    if not isinstance(geometry, kind):
        fitting = [name for name in FORMATS if isinstance(geometry, _kind(FORMATS[name][0]))]
        wrong, right = (g.FAMILY or "vit" for g in (kind, geometry))
        raise UserError(
            f"layout {layout} holds networks of the family {wrong}, this is one of {right}: "
            f"choose format {', '.join(fitting)}."
        )


def _kind(layout: str) -> type:
    return FAMILY.get(layout, Geometry)


def variants(layout: str, geometry: AnyGeometry) -> Iterator[Layout]:
    """The rules of a layout under every prefix that its files may have; the written one first.

    Raises:
        UserError: The layout cannot hold such a model.
    """
    rules = rules_of(layout, geometry)
    prefixes = PREFIXES.get(layout, ("",))
    own = next((p for p in prefixes if any(rule.theirs.startswith(p) for rule in rules)), "")
    for outer in ("", "module."):
        for prefix in sorted(prefixes, key=lambda p: p != own):
            yield tuple(replace(r, theirs=outer + _moved(r.theirs, own, prefix)) for r in rules)


def _moved(key: str, old: str, new: str) -> str:
    return new + key.removeprefix(old) if key.startswith(old) else key


def rules_for(layout: str, geometry: AnyGeometry, keys: frozenset[str]) -> Layout:
    """The rules of a layout under the prefix that knows most of ``keys`` ("{i}" for layers).

    Raises:
        UserError: The layout cannot hold such a model.
    """
    return max(variants(layout, geometry), key=lambda r: len(keys & names_of(x.theirs for x in r)))
