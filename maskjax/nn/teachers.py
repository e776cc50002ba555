"""Sizes of encoders that others have published, by name, and geometries made from a few words."""

import dataclasses
import difflib
import json
from collections.abc import Iterable
from typing import Any

from maskjax.errors import UserError
from maskjax.nn.geometry import Geometry

# Width, depth, heads (Dosovitskiy et al. 2021; Touvron et al. 2021 for the two small ones).
WIDTHS = {
    "ti": (192, 12, 3),
    "s": (384, 12, 6),
    "b": (768, 12, 12),
    "l": (1024, 24, 16),
    "h": (1280, 32, 16),
    "g": (1536, 40, 24),  # DINOv2's giant; its SwiGLU is 4096 wide
}
LEARNED = {"position": "learned"}
DINOV2 = {**LEARNED, "image_size": (518, 518), "layer_scale": True, "mask_token": True}
CLIP = {
    **LEARNED,
    "pre_norm": True,
    "patch_bias": False,
    "activation": "quick_gelu",
    "eps": 1e-5,
}
# Mean and standard deviation of the pixels that CLIP was trained on (official code).
CLIP_PIXELS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
SWIGLU = {"mlp": "swiglu", "mlp_hidden": 4096}
# Family -> (options, {variant: options of its own}); a variant is a width and a patch size.
FAMILIES: dict[str, tuple[dict[str, Any], dict[str, dict[str, Any]]]] = {
    "mae": ({}, {"b16": {}, "l16": {}, "h14": {}}),
    "deit": (LEARNED, {"ti16": {}, "s16": {}, "b16": {}}),
    "deit_distilled": ({**LEARNED, "dist_token": True}, {"ti16": {}, "s16": {}, "b16": {}}),
    "dino": (LEARNED, {"s16": {}, "s8": {}, "b16": {}, "b8": {}}),
    "dinov2": (DINOV2, {"s14": {}, "b14": {}, "l14": {}, "g14": SWIGLU}),
    "dinov2_reg": (
        {**DINOV2, "registers": 4},
        {"s14": {}, "b14": {}, "l14": {}, "g14": SWIGLU},
    ),
    "clip": (
        CLIP,
        {
            "b32": {"projection": 512},
            "b16": {"projection": 512},
            "l14": {"projection": 768},
        },
    ),
}


def teacher_names() -> tuple[str, ...]:
    """("mae_b16", ..., "clip_l14")."""
    return tuple(f"{family}_{name}" for family, (_, names) in FAMILIES.items() for name in names)


def teacher_geometry(name: str, changes: Iterable[str] = ()) -> Geometry:
    """The geometry of a published encoder, changed by "key=value" words.

    Args:
        name: Of `teacher_names`; "" = MAE's ViT-B/16, to be changed.
        changes: ("depth=8", "position=learned", ...); values in JSON, or bare words.

    Raises:
        UserError: For an unknown name or key, or values that do not fit each other.
    """
    if name and name not in teacher_names():
        near = difflib.get_close_matches(name, teacher_names(), 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"no teacher {name!r}; {hint}there are {', '.join(teacher_names())}")
    family, _, variant = (name or "mae_b16").rpartition("_")
    options, variants = FAMILIES[family]
    width = variant.rstrip("0123456789")
    dim, depth, heads = WIDTHS[width]
    values: dict[str, Any] = {
        "image_size": (224, 224),
        "patch_size": int(variant.removeprefix(width)),
        "channels": 3,
        "dim": dim,
        "depth": depth,
        "heads": heads,
        "mlp_hidden": 4 * dim,
    }
    return Geometry(**values | options | variants[variant] | changed(changes))


def changed(words: Iterable[str]) -> dict[str, Any]:
    """Fields of a `Geometry` from "key=value" words; values in JSON, or bare words.

    Raises:
        UserError: For an unknown key, or a word without "=".
    """
    return dict(map(_change, words))


def _change(word: str) -> tuple[str, Any]:
    key, equals, text = word.partition("=")
    known = [field.name for field in dataclasses.fields(Geometry)]
    if not equals or key not in known:
        raise UserError(f"{word!r} changes no geometry; write key=value, key of {', '.join(known)}")
    try:
        return key, json.loads(text.lower() if text in ("True", "False") else text)
    except json.JSONDecodeError:
        return key, text
