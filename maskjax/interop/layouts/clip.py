"""CLIP's image tower (Radford et al. 2021): OpenAI's names and Hugging Face's.

The projection to the shared space has no bias and reads the class token. OpenAI's files are in
half precision and hold the text tower beside it.
"""

from maskjax.interop.layouts.parts import (
    BlockNames,
    encoder_blocks,
    norm,
    patch_embed,
    position,
    prefix_tokens,
    require_options,
)
from maskjax.interop.rules import Layout, Rule
from maskjax.interop.transforms import IDENTITY, LINEAR
from maskjax.nn.geometry import Geometry

OPENAI_BLOCK = BlockNames(
    "ln_1",
    "attn.in_proj_",
    "attn.out_proj",
    "ln_2",
    "mlp.c_fc",
    "mlp.c_proj",
    weight="weight",
    bias="bias",
)
HF_BLOCK = BlockNames(
    "layer_norm1",
    tuple(f"self_attn.{name}_proj" for name in "qkv"),
    "self_attn.out_proj",
    "layer_norm2",
    "mlp.fc1",
    "mlp.fc2",
)
OPTIONS = ("patch_bias", "pre_norm", "activation", "projection", "final_norm", "qkv_bias")


def rules(geometry: Geometry) -> Layout:
    """Rules of OpenAI's names."""
    g, at = geometry, "visual."
    _check("clip", g)
    return (
        *prefix_tokens(g, {"cls_token": f"{at}class_embedding"}, {"cls_token": IDENTITY}),
        *position(f"{at}positional_embedding", g, IDENTITY),
        *patch_embed("encoder/patch_embed", f"{at}conv1", g),
        *(norm("encoder/pre_norm", f"{at}ln_pre") if g.pre_norm else ()),
        *encoder_blocks(f"{at}transformer.resblocks.{{i}}", OPENAI_BLOCK, g),
        *(norm("encoder/norm", f"{at}ln_post") if g.has_norm else ()),
        *((Rule("projection/kernel", f"{at}proj"),) if g.projection else ()),
    )


def rules_hf(geometry: Geometry) -> Layout:
    """Rules of Hugging Face's names."""
    g, at = geometry, "vision_model."
    _check("hf_clip", g)
    tokens = {"cls_token": f"{at}embeddings.class_embedding"}
    projection = Rule("projection/kernel", "visual_projection.weight", LINEAR)
    return (
        *prefix_tokens(g, tokens, {"cls_token": IDENTITY}),
        *position(f"{at}embeddings.position_embedding.weight", g, IDENTITY),
        *patch_embed("encoder/patch_embed", f"{at}embeddings.patch_embedding", g),
        *(norm("encoder/pre_norm", f"{at}pre_layrnorm") if g.pre_norm else ()),
        *encoder_blocks(f"{at}encoder.layers.{{i}}", HF_BLOCK, g),
        *(norm("encoder/norm", f"{at}post_layernorm") if g.has_norm else ()),
        *((projection,) if g.projection else ()),
    )


def _check(layout: str, geometry: Geometry) -> None:
    require_options(layout, geometry, OPTIONS, "use layout timm.")
