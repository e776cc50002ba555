"""Names and shapes of published encoders, one block deep, written down by hand from their files."""

import numpy as np
import pytest
from interop_trees import random_tree
from test_interop_tables import assert_same

from maskjax.interop import Geometry, files, import_weights, to_torch
from maskjax.interop.layouts import LAYOUTS

D, H, M, P, N = 24, 3, 40, 8, 4  # width, heads, MLP, patch, patches of 16 x 16 pixels
LEARNED = {"position": "learned"}


def layer(name: str, out: int, into: int) -> dict:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def norm(name: str) -> dict:
    return {f"{name}.weight": (D,), f"{name}.bias": (D,)}


def conv(name: str, *, bias: bool = True, frames: tuple = ()) -> dict:
    weight = {f"{name}.weight": (D, 3, *frames, P, P)}
    return weight | ({f"{name}.bias": (D,)} if bias else {})


def timm_block(mlp: dict | None = None) -> dict:
    plain = {**layer("mlp.fc1", M, D), **layer("mlp.fc2", D, M)}
    names = {**norm("norm1"), **layer("attn.qkv", 3 * D, D), **layer("attn.proj", D, D)}
    return under("blocks.0.", names | norm("norm2") | (plain if mlp is None else mlp))


def hub_block(at: str, *, scales: dict | None = None, biases: tuple = ("query", "key", "value")):
    inner = "attention.attention"
    names = {f"{inner}.{name}.weight": (D, D) for name in ("query", "key", "value")}
    names |= {f"{inner}.{name}.bias": (D,) for name in biases}
    names |= {**layer("attention.output.dense", D, D), **layer("intermediate.dense", M, D)}
    names |= {**layer("output.dense", D, M), **norm("layernorm_before"), **norm("layernorm_after")}
    return under(f"{at}encoder.layer.0.", names | (scales or {}))


def under(at: str, names: dict) -> dict:
    return {at + name: shape for name, shape in names.items()}


TIMM = {"cls_token": (1, 1, D), **conv("patch_embed.proj"), **norm("norm")}
SCALES = {"blocks.0.ls1.gamma": (D,), "blocks.0.ls2.gamma": (D,)}
HUB = {"cls_token": (1, 1, D), **conv("patch_embeddings.projection")}
CLIP = {"pre_norm": True, "patch_bias": False, "activation": "quick_gelu", "projection": 10}
LAMBDAS = {"lambda_1": (D,), "lambda_2": (D,)}
TABLE = "relative_position_bias.relative_position_bias_table"
OFFSETS = 3 * 3 + 3
SWIGLU = {**layer("mlp.w12", 2 * M, D), **layer("mlp.w3", D, M)}
CASES = {
    "deit, distilled": (
        "timm",
        {**LEARNED, "dist_token": True},
        {**TIMM, "dist_token": (1, 1, D), "pos_embed": (1, N + 2, D), **timm_block()},
    ),
    "dinov2 with registers": (
        "dinov2",
        {**LEARNED, "layer_scale": True, "mask_token": True, "registers": 4},
        {
            **TIMM,
            **SCALES,
            **timm_block(),
            "mask_token": (1, D),
            "register_tokens": (1, 4, D),
            "pos_embed": (1, N + 1, D),
        },
    ),
    "dinov2, giant": (
        "dinov2",
        {**LEARNED, "layer_scale": True, "mask_token": True, "mlp": "swiglu"},
        {
            **TIMM,
            **SCALES,
            **timm_block(SWIGLU),
            "mask_token": (1, D),
            "pos_embed": (1, N + 1, D),
        },
    ),
    "clip": (
        "clip",
        {**LEARNED, **CLIP},
        under(
            "visual.",
            {
                "class_embedding": (D,),
                "positional_embedding": (N + 1, D),
                "proj": (D, 10),
                **conv("conv1", bias=False),
                **norm("ln_pre"),
                **norm("ln_post"),
                **under(
                    "transformer.resblocks.0.",
                    {
                        "attn.in_proj_weight": (3 * D, D),
                        "attn.in_proj_bias": (3 * D,),
                        **layer("attn.out_proj", D, D),
                        **norm("ln_1"),
                        **layer("mlp.c_fc", M, D),
                        **layer("mlp.c_proj", D, M),
                        **norm("ln_2"),
                    },
                ),
            },
        ),
    ),
    "clip of the hub": (
        "hf_clip",
        {**LEARNED, **CLIP},
        {
            "visual_projection.weight": (10, D),
            **under(
                "vision_model.",
                {
                    "embeddings.class_embedding": (D,),
                    "embeddings.position_embedding.weight": (N + 1, D),
                    **conv("embeddings.patch_embedding", bias=False),
                    **norm("pre_layrnorm"),
                    **norm("post_layernorm"),
                    **under(
                        "encoder.layers.0.",
                        {
                            **norm("layer_norm1"),
                            **norm("layer_norm2"),
                            **layer("self_attn.q_proj", D, D),
                            **layer("self_attn.k_proj", D, D),
                            **layer("self_attn.v_proj", D, D),
                            **layer("self_attn.out_proj", D, D),
                            **layer("mlp.fc1", M, D),
                            **layer("mlp.fc2", D, M),
                        },
                    ),
                },
            ),
        },
    ),
    "vit classifier of the hub": (
        "hf_vit",
        {**LEARNED, "pool": "cls", "num_classes": 5},
        {
            **under("vit.embeddings.", {**HUB, "position_embeddings": (1, N + 1, D)}),
            **hub_block("vit."),
            **norm("vit.layernorm"),
            **layer("classifier", 5, D),
        },
    ),
    "beit classifier of the hub": (
        "hf_beit",
        {
            "position": "none",
            "relative": "layer",
            "qkv_bias": "query_value",
            "layer_scale": True,
            "pool": "gap",
            "num_classes": 5,
        },
        {
            **under("beit.embeddings.", HUB),
            **hub_block("beit.", scales=LAMBDAS, biases=("query", "value")),
            f"beit.encoder.layer.0.attention.attention.{TABLE}": (OFFSETS, H),
            **norm("beit.pooler.layernorm"),
            **layer("classifier", 5, D),
        },
    ),
    "videomae of the hub": (
        "hf_videomae",
        {
            "position": "sinusoid",
            "cls": False,
            "frames": 4,
            "tubelet": 2,
            "qkv_bias": "query_value",
        },
        {
            **conv("videomae.embeddings.patch_embeddings.projection", frames=(2,)),
            **hub_block("videomae.", biases=()),
            "videomae.encoder.layer.0.attention.attention.q_bias": (D,),
            "videomae.encoder.layer.0.attention.attention.v_bias": (D,),
            **norm("videomae.layernorm"),
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_names_and_shapes(name, tmp_path):
    layout, options, expected = CASES[name]
    geometry = Geometry((16, 16), P, 3, D, 1, H, M, **options)
    arrays = to_torch(random_tree(geometry), LAYOUTS[layout](geometry))
    assert {key: array.shape for key, array in arrays.items()} == expected
    # Random numbers under those names, as another library would have written them.
    draw = np.random.default_rng(1).normal
    made = {key: draw(size=shape).astype(np.float32) for key, shape in expected.items()}
    files.write(tmp_path / "w.safetensors", made, {})
    params, report = import_weights(tmp_path / "w.safetensors", geometry=geometry)
    assert not (report.kept or report.ignored)
    assert_same(to_torch(params, LAYOUTS[layout](geometry)), {k: made[k] for k in arrays})
