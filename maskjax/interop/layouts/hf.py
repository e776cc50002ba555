"""Hugging Face ViTMAE: encoder and decoder, under the three sets of names that are in use.

- ``rules`` (layout "hf"): the names of the files on the hub; this is what we write.
- ``rules_memory`` (layout "hf5"): the in-memory names of transformers >= 5, ``model.state_dict()``.
- ``rules_saved`` (layout "hf5saved"): what ``save_pretrained`` of transformers 5 writes, which is
  the hub's names except for the decoder's blocks.
"""

from maskjax.errors import UserError
from maskjax.interop.layouts.parts import (
    BlockNames,
    block_stack,
    decoder_table,
    linear,
    norm,
    patch_embed,
    position,
    require_options,
    token,
)
from maskjax.interop.rules import Layout
from maskjax.nn.geometry import Geometry

HUB_BLOCK = BlockNames(
    norm1="layernorm_before",
    qkv=tuple(f"attention.attention.{name}" for name in ("query", "key", "value")),
    out="attention.output.dense",
    norm2="layernorm_after",
    fc1="intermediate.dense",
    fc2="output.dense",
)
MEMORY_BLOCK = BlockNames(
    norm1="layernorm_before",
    qkv=tuple(f"attention.{name}_proj" for name in ("q", "k", "v")),
    out="attention.o_proj",
    norm2="layernorm_after",
    fc1="mlp.fc1",
    fc2="mlp.fc2",
)


def rules(geometry: Geometry) -> Layout:
    """Rules for the names of hub files."""
    return _rules(geometry, HUB_BLOCK, "vit.encoder.layer.{i}", "decoder.decoder_layers.{i}")


def rules_memory(geometry: Geometry) -> Layout:
    """Rules for the in-memory names of transformers >= 5."""
    return _rules(geometry, MEMORY_BLOCK, "vit.layers.{i}", "decoder.decoder_layers.{i}")


def rules_saved(geometry: Geometry) -> Layout:
    """Rules for the names that transformers 5 writes to disk."""
    return _rules(geometry, HUB_BLOCK, "vit.encoder.layer.{i}", "decoder.decoder_encoder.layer.{i}")


def _rules(geometry: Geometry, names: BlockNames, encoder: str, decoder: str) -> Layout:
    _check(geometry)
    embeddings = "vit.embeddings"
    projection = f"{embeddings}.patch_embeddings.projection"
    return (
        token("encoder/cls_token", f"{embeddings}.cls_token"),
        *position(f"{embeddings}.position_embeddings", geometry),
        *patch_embed("encoder/patch_embed", projection, geometry),
        *block_stack("encoder/blocks", encoder, names),
        *(norm("encoder/norm", "vit.layernorm") if geometry.has_norm else ()),
        *(_decoder(geometry, names, decoder) if geometry.has_decoder else ()),
    )


def _decoder(geometry: Geometry, names: BlockNames, blocks: str) -> Layout:
    return (
        token("decoder/mask_token", "decoder.mask_token"),
        decoder_table("decoder.decoder_pos_embed", geometry, cls=True),
        *linear("decoder/embed", "decoder.decoder_embed"),
        *block_stack("decoder/blocks", blocks, names),
        *norm("decoder/norm", "decoder.decoder_norm"),
        *linear("decoder/pred", "decoder.decoder_pred"),
    )


def _check(geometry: Geometry) -> None:
    require_options("hf", geometry, ("final_norm",), "use layout hf_vit or timm.")
    if not geometry.cls:
        raise UserError("layout hf: Hugging Face's ViTMAE needs a cls token; use layout timm.")
    if geometry.pool == "gap" or geometry.num_classes:
        raise UserError("layout hf: Hugging Face's ViTMAE has no classifier; use layout timm.")
