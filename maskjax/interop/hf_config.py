"""Hugging Face's config.json <-> our geometry, for the encoders that layouts here can hold."""

from collections.abc import Callable, Mapping
from typing import Any

from maskjax.errors import UserError
from maskjax.interop.hub_config import dinov2_hidden
from maskjax.nn.families import AnyGeometry, SwinGeometry
from maskjax.nn.geometry import Geometry

Config = Mapping[str, Any]
ACTIVATIONS = ("gelu", "quick_gelu")


def geometry_of(config: Config, source: str = "config.json") -> AnyGeometry | None:
    """The geometry that a config.json of transformers describes.

    Args:
        config: As read; None is given for one of another library.
        source: What to call it in messages.

    Raises:
        UserError: The model is of a kind that no layout here holds, or an entry is missing.
    """
    kind = config.get("model_type")
    if kind is None:
        return None
    if kind not in (*READERS, "swin"):
        kinds = ", ".join((*READERS, "swin"))
        raise UserError(f"{source}: model_type {kind!r}; the kinds read here are {kinds}.")
    if kind == "clip":
        projection = {"projection_dim": config.get("projection_dim", 512)}
        config = {**config.get("vision_config", {}), **projection, "architectures": ["CLIPModel"]}
    activation = config.get("hidden_act", "quick_gelu" if "clip" in kind else "gelu")
    if activation not in ACTIVATIONS:
        raise UserError(f"{source}: hidden_act {activation!r}; here are {', '.join(ACTIVATIONS)}.")
    try:
        if kind == "swin":
            return _swin(config)
        return Geometry(**_sizes(config) | {"activation": activation} | READERS[kind](config))
    except KeyError as error:
        raise UserError(f"{source} has no entry {error}.") from None


def layout_of(config: Config) -> str | None:
    """The name of the layout of such a folder's keys, if the config tells it."""
    return LAYOUT_OF.get(str(config.get("model_type")))


def _sizes(config: Config) -> dict[str, Any]:
    size = config["image_size"]
    return {
        "image_size": tuple(size) if isinstance(size, list | tuple) else (size, size),
        "patch_size": _one(config["patch_size"]),
        "channels": config.get("num_channels", 3),
        "dim": config["hidden_size"],
        "depth": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "mlp_hidden": config.get("intermediate_size", 4 * config["hidden_size"]),
        "eps": config.get("layer_norm_eps", 1e-12),
        "qkv_bias": "all" if config.get("qkv_bias", True) else "none",
    }


def _one(size: Any) -> Any:
    """A square patch as one number; others stay as they are, and are refused by the geometry."""
    return size[0] if isinstance(size, list | tuple) and len(set(size)) == 1 else size


def _vit(config: Config) -> dict[str, Any]:
    return {"position": "learned", **_head(config, "cls", "ForImageClassification")}


def _deit(config: Config) -> dict[str, Any]:
    return {**_vit(config), "dist_token": True}


def _mae(config: Config) -> dict[str, Any]:
    if not _is(config, "ForPreTraining"):
        return {}
    return {
        "decoder_dim": config.get("decoder_hidden_size", 512),
        "decoder_depth": config.get("decoder_num_hidden_layers", 8),
        "decoder_heads": config.get("decoder_num_attention_heads", 16),
        "decoder_mlp_hidden": config.get("decoder_intermediate_size", 2048),
    }


def _dinov2(config: Config) -> dict[str, Any]:
    swiglu = config.get("use_swiglu_ffn", False)
    return {
        "position": "learned",
        "layer_scale": True,
        "eps": config.get("layer_norm_eps", 1e-6),
        "mask_token": config.get("use_mask_token", True),
        "registers": config.get("num_register_tokens", 0),
        "mlp": "swiglu" if swiglu else "plain",
        "mlp_hidden": dinov2_hidden(config["hidden_size"], config.get("mlp_ratio", 4), swiglu),
    }


def _clip(config: Config) -> dict[str, Any]:
    projects = _is(config, "WithProjection") or _is(config, "CLIPModel")
    return {
        "position": "learned",
        "patch_bias": False,
        "pre_norm": True,
        "eps": config.get("layer_norm_eps", 1e-5),
        "projection": config.get("projection_dim", 512) if projects else 0,
    }


def _beit(config: Config) -> dict[str, Any]:
    pooled = config.get("use_mean_pooling", True)
    head = _head(config, "gap" if pooled else "cls", "ForImageClassification")
    layer, shared = (
        config.get(f"use_{kind}relative_position_bias", False) for kind in ("", "shared_")
    )
    return {
        "position": "learned" if config.get("use_absolute_position_embeddings") else "none",
        "relative": "layer" if layer else "shared" if shared else "none",
        "layer_scale": config.get("layer_scale_init_value", 0.1) > 0,
        "mask_token": config.get("use_mask_token", False),
        "qkv_bias": "query_value",
        **({"pool": "gap"} if pooled else {}),
        **head,
    }


def _videomae(config: Config) -> dict[str, Any]:
    pooled = config.get("use_mean_pooling", True)
    head = _head(config, "gap", "ForVideoClassification") if pooled else {}
    return {
        "position": "sinusoid",
        "cls": False,
        "frames": config.get("num_frames", 16),
        "tubelet": config.get("tubelet_size", 2),
        "qkv_bias": "query_value" if config.get("qv_bias", True) else "none",
        "final_norm": not pooled or bool(head),  # pooling brings a norm of its own
        **head,
    }


def _swin(config: Config) -> SwinGeometry:
    if config.get("use_absolute_embeddings") or not config.get("qkv_bias", True):
        raise UserError("a Swin with absolute positions, or without qkv_bias, is not known here.")
    size = config["image_size"]
    classes = _head(config, "gap", "ForImageClassification").get("num_classes", 0)
    return SwinGeometry(
        image_size=tuple(size) if isinstance(size, list | tuple) else (size, size),
        patch_size=_one(config["patch_size"]),
        channels=config.get("num_channels", 3),
        embed_dim=config["embed_dim"],
        depths=config["depths"],
        heads=config["num_heads"],
        window=config["window_size"],
        mlp_ratio=config.get("mlp_ratio", 4.0),
        mask_token=_is(config, "ForMaskedImageModeling"),
        pixel_head=_is(config, "ForMaskedImageModeling"),
        num_classes=classes,
        eps=config.get("layer_norm_eps", 1e-5),
    )


def _head(config: Config, pool: str, architecture: str) -> dict[str, Any]:
    if not _is(config, architecture):
        return {}
    labels = config.get("num_labels") or len(config.get("id2label") or {0: "", 1: ""})
    return {"pool": pool, "num_classes": labels}


def _is(config: Config, ending: str) -> bool:
    return any(name.endswith(ending) for name in config.get("architectures") or ())


READERS: Mapping[str, Callable[[Config], dict[str, Any]]] = {
    "vit": _vit,
    "deit": _deit,
    "vit_mae": _mae,
    "dinov2": _dinov2,
    "dinov2_with_registers": _dinov2,
    "clip_vision_model": _clip,
    "clip": _clip,
    "beit": _beit,
    "videomae": _videomae,
}
LAYOUT_OF = {
    "vit": "hf_vit",
    "deit": "hf_vit",
    "dinov2": "hf_dinov2",
    "dinov2_with_registers": "hf_dinov2",
    "clip_vision_model": "hf_clip",
    "clip": "hf_clip",
    "beit": "hf_beit",
    "videomae": "hf_videomae",
    "swin": "hf_swin",
}
