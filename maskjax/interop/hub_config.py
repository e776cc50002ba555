"""config.json as transformers and timm read it: what makes a folder of weights a model."""

from collections.abc import Mapping
from typing import Any

from maskjax.errors import UserError
from maskjax.nn.families import AnyGeometry, ConvNeXtGeometry, ResNetGeometry, SwinGeometry
from maskjax.nn.geometry import Geometry

Settings = Mapping[str, Any]
# The base model and the one with a head, by layout.
CLASSES = {
    "hf": ("ViTMAEModel", "ViTMAEForPreTraining"),
    "hf_vit": ("ViTModel", "ViTForImageClassification"),
    "hf_deit": ("DeiTModel", "DeiTForImageClassification"),
    "hf_dinov2": ("Dinov2Model", "Dinov2Model"),
    "hf_registers": ("Dinov2WithRegistersModel", "Dinov2WithRegistersModel"),
    "hf_clip": ("CLIPVisionModel", "CLIPVisionModelWithProjection"),
    "hf_beit": ("BeitModel", "BeitForImageClassification"),
    "hf_videomae": ("VideoMAEModel", "VideoMAEForVideoClassification"),
    "hf_swin": ("SwinModel", "SwinForImageClassification"),
}
MODEL_TYPES = {
    "hf": "vit_mae",
    "hf_vit": "vit",
    "hf_deit": "deit",
    "hf_dinov2": "dinov2",
    "hf_registers": "dinov2_with_registers",
    "hf_clip": "clip_vision_model",
    "hf_beit": "beit",
    "hf_videomae": "videomae",
    "hf_swin": "swin",
}
# Layouts whose folders timm reads.
OF_TIMM = ("timm", "classify", "resnet", "timm_swin", "timm_convnext")
# Family -> names of the first layer and of the classifier in timm.
TIMM_ENDS = {
    "resnet": ("conv1", "fc"),
    "swin": ("patch_embed.proj", "head.fc"),
    "convnext": ("stem.0", "head.fc"),
}
TIMM_NORM_EPS = {True: 1e-5, False: 1e-6}  # of the classes with and without a norm in front


def transformers_config(layout: str, geometry: AnyGeometry, settings: Settings) -> dict[str, Any]:
    """config.json for ``AutoModel.from_pretrained``.

    Args:
        layout: "hf" or another layout of Hugging Face.
        geometry: Of the file.
        settings: "mask_ratio" and "norm_pix" are used where the model has them.

    Raises:
        UserError: The layout has no such file.
    """
    if layout not in CLASSES:
        raise UserError(f"layout {layout} has no config.json; --out must name a file for it.")
    if isinstance(geometry, SwinGeometry):
        return _swin_config(geometry)
    g = geometry
    kind = _kind(layout, g)
    head = bool(g.num_classes or g.has_decoder or g.projection)
    config: dict[str, Any] = {
        "architectures": [CLASSES[kind][head]],
        "model_type": MODEL_TYPES[kind],
        "image_size": g.image_size[0] if len(set(g.image_size)) == 1 else list(g.image_size),
        "patch_size": g.patch_size,
        "num_channels": g.channels,
        "hidden_size": g.dim,
        "num_hidden_layers": g.depth,
        "num_attention_heads": g.heads,
        "intermediate_size": g.mlp_hidden,
        "hidden_act": g.activation,
        "layer_norm_eps": g.eps,
        "qkv_bias": g.qkv_bias != "none",
    }
    return config | _labels(g.num_classes) | _special(kind, g, settings)


def _labels(count: int) -> dict[str, Any]:
    labels = {str(i): f"LABEL_{i}" for i in range(count)}
    ids = {label: int(i) for i, label in labels.items()}
    return {"id2label": labels, "label2id": ids} if count else {}


def _swin_config(g: SwinGeometry) -> dict[str, Any]:
    return {
        "architectures": [
            "SwinForMaskedImageModeling" if g.pixel_head else CLASSES["hf_swin"][g.num_classes > 0]
        ],
        "model_type": MODEL_TYPES["hf_swin"],
        "image_size": g.image_size[0] if len(set(g.image_size)) == 1 else list(g.image_size),
        "patch_size": g.patch_size,
        "num_channels": g.channels,
        "embed_dim": g.embed_dim,
        "depths": list(g.depths),
        "num_heads": list(g.heads),
        "window_size": g.window,
        "mlp_ratio": g.mlp_ratio,
        "layer_norm_eps": g.eps,
        "encoder_stride": g.stride,
        **_labels(g.num_classes),
    }


def _kind(layout: str, g: Geometry) -> str:
    if layout == "hf_vit" and g.dist_token:
        return "hf_deit"
    return "hf_registers" if layout == "hf_dinov2" and g.registers else layout


def _special(kind: str, g: Geometry, settings: Settings) -> dict[str, Any]:
    """Entries that one model type has and others have not."""
    if kind == "hf":
        return _mae(g, settings)
    if kind in ("hf_dinov2", "hf_registers"):
        swiglu = {"use_swiglu_ffn": g.mlp == "swiglu", "use_mask_token": g.mask_token}
        registers = {"num_register_tokens": g.registers} if g.registers else {}
        return {"mlp_ratio": _dinov2_ratio(g), **swiglu, **registers}
    if kind == "hf_clip":
        return {"projection_dim": g.projection or g.dim}
    if kind == "hf_beit":
        return {
            "use_relative_position_bias": g.relative == "layer",
            "use_shared_relative_position_bias": g.relative == "shared",
            "use_absolute_position_embeddings": g.position == "learned",
            "use_mean_pooling": g.pool == "gap",
            "use_mask_token": g.mask_token,
            "layer_scale_init_value": 0.1 if g.layer_scale else 0,
        }
    if kind == "hf_videomae":
        frames = {"num_frames": g.frames, "tubelet_size": g.tubelet}
        pooled = g.pool == "gap" or not g.final_norm
        return {**frames, "qv_bias": g.qkv_bias != "none", "use_mean_pooling": pooled}
    return {}


def _dinov2_ratio(g: Geometry) -> int:
    """The whole number from which transformers makes this MLP's width."""
    for ratio in range(1, 17):
        if dinov2_hidden(g.dim, ratio, g.mlp == "swiglu") == g.mlp_hidden:
            return ratio
    raise UserError(
        f"transformers' DINOv2 has an MLP of a whole multiple of the width {g.dim} (of SwiGLU two "
        f"thirds of that), not {g.mlp_hidden}; use format timm or dinov2."
    )


def dinov2_hidden(dim: int, ratio: float, swiglu: bool) -> int:
    """Width of the MLP: of SwiGLU two thirds, rounded up to a multiple of 8."""
    hidden = int(dim * ratio)
    return (int(hidden * 2 / 3) + 7) // 8 * 8 if swiglu else hidden


def _mae(g: Geometry, settings: Settings) -> dict[str, Any]:
    if not g.has_decoder:
        return {"mask_ratio": 0.0}  # transformers' ViTMAE masks in every forward pass
    names = {"mask_ratio": "mask_ratio", "norm_pix": "norm_pix_loss"}
    return {
        "decoder_hidden_size": g.decoder_dim,
        "decoder_num_hidden_layers": g.decoder_depth,
        "decoder_num_attention_heads": g.decoder_heads,
        "decoder_intermediate_size": g.decoder_mlp_hidden,
        **{names[key]: settings[key] for key in names if key in settings},
    }


def image_processor(geometry: AnyGeometry, settings: Settings) -> dict[str, Any]:
    """preprocessor_config.json: size, and the channel mean and std of pixels in 0..1."""
    mean, std = pixel_stats(geometry, settings)
    height, width = geometry.image_size
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": height, "width": width},
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": mean,
        "image_std": std,
    }


def pixel_stats(geometry: AnyGeometry, settings: Settings) -> tuple[list[float], list[float]]:
    """Channel mean and std in the settings; zeros and ones where they are not said."""
    default = {"mean": [0.0] * geometry.channels, "std": [1.0] * geometry.channels}
    mean, std = (list(settings.get(key, default[key])) for key in ("mean", "std"))
    return mean, std


def timm_config(geometry: AnyGeometry, settings: Settings) -> dict[str, Any]:
    """config.json for ``timm.create_model("local-dir:DIR", pretrained=True)``."""
    mean, std = pixel_stats(geometry, settings)
    convolutional = isinstance(geometry, ResNetGeometry | ConvNeXtGeometry)
    first, head = TIMM_ENDS.get(geometry.FAMILY, ("patch_embed.proj", "head"))
    if isinstance(geometry, ConvNeXtGeometry) and not geometry.final_norm:
        raise UserError(
            "timm's ConvNeXts have a norm after pooling, this model has none: name a file instead "
            "of a folder."
        )
    return {
        "architecture": timm_architecture(geometry),
        "num_classes": geometry.num_classes,
        "num_features": geometry.dim,
        "model_args": timm_arguments(geometry),
        "pretrained_cfg": {
            "input_size": [geometry.channels, *geometry.image_size],
            "fixed_input_size": not convolutional,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "mean": mean,
            "std": std,
            "num_classes": geometry.num_classes,
            "first_conv": first,
            "classifier": head,
        },
    }


def timm_architecture(geometry: AnyGeometry) -> str:
    """A name of timm whose class has the options that arguments in JSON cannot say.

    Raises:
        UserError: timm's class cannot be such a convnet or Swin.
    """
    if isinstance(geometry, ConvNeXtGeometry):
        # With patches of 2 timm halves the map in front of the first stage as well.
        stages, patch, eps = len(geometry.blocks), geometry.patch_size, geometry.eps
        if stages != 4 or patch == 2 or eps != 1e-6 or not geometry.layer_scale:
            raise UserError(
                "timm's ConvNeXts have four stages, patches that are not of 2 pixels, eps=1e-6 and "
                f"layer scale; this one has {stages} stages, patch_size={patch}, eps={eps}, "
                f"layer_scale={geometry.layer_scale}: name a file instead of a folder."
            )
        return "convnext_tiny"
    if isinstance(geometry, SwinGeometry):
        if geometry.eps != 1e-5:
            raise UserError(
                f"timm's Swins have eps=1e-5; this one has {geometry.eps}: name a file instead of "
                "a folder."
            )
        return "swin_tiny_patch4_window7_224"
    if isinstance(geometry, ResNetGeometry):
        if (geometry.stem, geometry.expansion, geometry.eps) != (64, 4, 1e-5):
            raise UserError(
                f"timm's ResNets have stem=64, expansion=4, eps=1e-5; this one has "
                f"stem={geometry.stem}, expansion={geometry.expansion}, eps={geometry.eps}: name a "
                "file instead of a folder."
            )
        return "resnet50"
    if geometry.dist_token:
        return "deit_base_distilled_patch16_224"
    if geometry.pre_norm:
        return "vit_base_patch16_clip_224"
    return "vit_giant_patch14_dinov2" if geometry.mlp == "swiglu" else "vit_base_patch16_224"


def timm_arguments(geometry: AnyGeometry) -> dict[str, Any]:
    """Arguments for ``timm.create_model(timm_architecture(geometry), ...)``."""
    if isinstance(geometry, ResNetGeometry):
        return _resnet_arguments(geometry)
    if isinstance(geometry, SwinGeometry):
        return _swin_arguments(geometry)
    if isinstance(geometry, ConvNeXtGeometry):
        return _convnext_arguments(geometry)
    g = geometry
    hidden = g.mlp_hidden * (2 if g.mlp == "swiglu" else 1)
    exact = hidden % g.dim == 0
    pool = {"gap": "avg", "cls": "token", "none": "token" if g.cls else ""}[g.pool]
    arguments: dict[str, Any] = {
        "img_size": list(g.image_size),
        "patch_size": g.patch_size,
        "in_chans": g.channels,
        "embed_dim": g.dim,
        "depth": g.depth,
        "num_heads": g.heads,
        # timm truncates dim * ratio: half a unit more keeps rounding from losing one.
        "mlp_ratio": hidden // g.dim if exact else (hidden + 0.5) / g.dim,
        "num_classes": g.num_classes,
        "class_token": g.cls,
        "global_pool": pool,
    }
    options = {
        "reg_tokens": (g.registers, 0),
        "no_embed_class": (not g.prefix_positions, False),
        "qkv_bias": (g.qkv_bias != "none", True),
        "init_values": (1e-5 if g.layer_scale else None, None),
        "act_layer": ("quick_gelu" if g.activation == "quick_gelu" else None, None),
        "final_norm": (g.final_norm, True),
    }
    if g.mlp == "swiglu":
        options |= {"init_values": (1e-5, None)}
    return arguments | {name: value for name, (value, usual) in options.items() if value != usual}


def _resnet_arguments(g: ResNetGeometry) -> dict[str, Any]:
    sizes = {"layers": list(g.blocks), "channels": list(g.widths)}
    return {**sizes, "in_chans": g.channels, "num_classes": g.num_classes}


def _convnext_arguments(g: ConvNeXtGeometry) -> dict[str, Any]:
    return {
        "in_chans": g.channels,
        "depths": list(g.blocks),
        "dims": list(g.widths),
        "patch_size": g.patch_size,
        "ls_init_value": 1e-6,
        "num_classes": g.num_classes,
    }


def _swin_arguments(g: SwinGeometry) -> dict[str, Any]:
    return {
        "img_size": list(g.image_size),
        "patch_size": g.patch_size,
        "in_chans": g.channels,
        "embed_dim": g.embed_dim,
        "depths": list(g.depths),
        "num_heads": list(g.heads),
        "window_size": g.window,
        "mlp_ratio": g.mlp_ratio,
        "num_classes": g.num_classes,
    }
