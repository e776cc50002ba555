"""Which layout a file has, told by its key names alone (never by the shapes of its tensors)."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from maskjax.errors import UserError
from maskjax.interop.layouts import LAYOUTS, rules_for
from maskjax.interop.paths import names_of
from maskjax.nn.families import AnyGeometry, ConvNeXtGeometry, ResNetGeometry, SwinGeometry
from maskjax.nn.geometry import Geometry

# What files of each layout may hold: (layout, what to call it, geometry or, of ViTs, its options).
DECODER = {"decoder_dim": 8, "decoder_depth": 1, "decoder_heads": 1, "decoder_mlp_hidden": 8}
GAP = {"pool": "gap", "num_classes": 1}
CLS = {"pool": "cls", "num_classes": 1}
ROWS = {"position": "sincos_rows"}
LEARNED = {"position": "learned"}
SCALED = {**LEARNED, "layer_scale": True}
REGISTERS = {**SCALED, "registers": 1, "prefix_positions": False}
BEIT = {"position": "none", "qkv_bias": "query_value", "layer_scale": True}
VIDEO = {"position": "none", "cls": False, "frames": 2, "qkv_bias": "query_value"}
CLIP = {**LEARNED, "patch_bias": False, "pre_norm": True, "activation": "quick_gelu"}
VITS = (
    ("mae", "mae, encoder only", {}),
    ("mae", "mae, encoder and decoder", DECODER),
    ("classify", "classify, mean pooling (pool='gap')", GAP),
    ("classify", "classify, class token (pool='cls')", CLS),
    ("mmpretrain", "mmpretrain, encoder only", ROWS),
    ("mmpretrain", "mmpretrain, encoder and decoder", {**ROWS, **DECODER}),
    ("hf", "hf, encoder only", {}),
    ("hf", "hf, encoder and decoder", DECODER),
    ("hf5", "hf5, encoder only", {}),
    ("hf5", "hf5, encoder and decoder", DECODER),
    ("hf5saved", "hf5saved, encoder and decoder", DECODER),
    ("hf_vit", "hf_vit, classifier", {**CLS, **LEARNED}),
    ("hf_vit", "hf_vit, with distillation token", {**LEARNED, "dist_token": True}),
    ("timm", "timm, with layer scale", SCALED),
    ("timm", "timm, with layer scale and registers", REGISTERS),
    ("timm", "timm, with distillation token", {**LEARNED, "dist_token": True}),
    ("timm", "timm, norm before the blocks (CLIP)", CLIP),
    ("dinov2", "dinov2", {**SCALED, "mask_token": True}),
    ("dinov2", "dinov2, with registers", {**SCALED, "mask_token": True, "registers": 1}),
    ("hf_dinov2", "hf_dinov2", {**SCALED, "mask_token": True}),
    ("hf_dinov2", "hf_dinov2, with registers", {**SCALED, "mask_token": True, "registers": 1}),
    ("clip", "clip, with projection", {**CLIP, "projection": 1}),
    ("hf_clip", "hf_clip", CLIP),
    ("hf_clip", "hf_clip, with projection", {**CLIP, "projection": 1}),
    ("beit", "beit, a bias table for each layer", {**BEIT, **GAP, "relative": "layer"}),
    ("pretraining", "pretraining (SimMIM)", {**BEIT, "relative": "shared", "mask_token": True}),
    ("pretraining", "pretraining (CAE)", {**BEIT, **LEARNED}),
    ("pretraining", "pretraining (VideoMAE)", VIDEO),
    ("hf_beit", "hf_beit", {**BEIT, **GAP, "relative": "layer"}),
    ("hf_beit", "hf_beit, shared bias table", {**BEIT, "relative": "shared", "mask_token": True}),
    ("hf_videomae", "hf_videomae", VIDEO),
)
RESNET = ResNetGeometry((8, 8), 3, (1, 1), (2, 2), 2, 1)
CONVNEXT = ConvNeXtGeometry((8, 8), 3, (1, 1), (2, 2), 2)
SWIN = SwinGeometry((8, 8), 4, 3, 2, (2, 1), (1, 2), 2)
KINDS: tuple[tuple[str, str, AnyGeometry], ...] = (
    *(
        (layout, label, Geometry((8, 8), 4, 3, 8, 1, 1, 8, **given))
        for layout, label, given in VITS
    ),
    ("resnet", "resnet, without classifier", RESNET),
    ("resnet", "resnet, with classifier", replace(RESNET, num_classes=1)),
    ("swin", "swin, with classifier", replace(SWIN, num_classes=1)),
    ("swin", "swin, pretraining (SimMIM)", replace(SWIN, mask_token=True, pixel_head=True)),
    ("timm_swin", "timm_swin, with classifier", replace(SWIN, num_classes=1)),
    ("hf_swin", "hf_swin", SWIN),
    ("hf_swin", "hf_swin, with classifier", replace(SWIN, num_classes=1)),
    ("hf_swin", "hf_swin, pretraining", replace(SWIN, mask_token=True, pixel_head=True)),
    ("convnext", "convnext, without classifier", replace(CONVNEXT, final_norm=False)),
    ("convnext", "convnext, with classifier", replace(CONVNEXT, num_classes=1)),
    ("timm_convnext", "timm_convnext, with classifier", replace(CONVNEXT, num_classes=1)),
)


@dataclass(frozen=True)
class Guess:
    """A layout with the share of names it explains."""

    layout: str
    label: str
    score: float


def choose(keys: Iterable[str], geometry: AnyGeometry, candidates: Iterable[str] = LAYOUTS) -> str:
    """The layout that knows most of the file's names, for this model; the first one of equals.

    Raises:
        UserError: No candidate knows any of the names, or can hold such a model.
    """
    names = names_of(keys)
    best, most, refusals = "", (0, 0), []
    for layout in candidates:
        try:
            rules = rules_for(layout, geometry, names)
        except UserError as error:  # the layout cannot hold such a model
            refusals.append(str(error))
            continue
        known = len(names & names_of(rule.theirs for rule in rules))
        # Networks in stages: two layouts may differ in the numbers of stages alone.
        staged = not isinstance(geometry, Geometry)
        exact = len({rule.theirs for rule in rules}.intersection(keys)) if staged else 0
        if known and (known, exact) > most:
            best, most = layout, (known, exact)
    if not best:
        some = ", ".join(sorted(names)[:5]) or "none at all"
        reasons = "".join(f" ({line})" for line in dict.fromkeys(refusals))
        known = ", ".join(candidates)
        raise UserError(
            f"no layout known here ({known}) has keys like this file's: {some}.{reasons}"
        )
    return best


def looks_like(keys: Iterable[str]) -> Guess | None:
    """The kind of file whose names agree best with these, whatever the model; None for no match.

    The score is the number of common names over the number of all names of both.
    """
    names = names_of(keys)
    guesses = []
    for layout, label, geometry in KINDS:
        expected = _names(layout, geometry, names)
        guesses.append(Guess(layout, label, len(names & expected) / len(names | expected)))
    best = max(guesses, key=lambda guess: guess.score)
    return best if best.score > 0 else None


def _names(layout: str, geometry: AnyGeometry, names: frozenset[str]) -> frozenset[str]:
    return names_of(rule.theirs for rule in rules_for(layout, geometry, names))
