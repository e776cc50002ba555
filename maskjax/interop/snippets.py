"""The line or two of PyTorch that load an exported file, written for the very model in it."""

from collections.abc import Mapping
from typing import Any

from maskjax.nn.geometry import Geometry


def snippet(layout: str, geometry: Geometry, path: str, settings: Mapping[str, Any]) -> str:
    """PyTorch code that builds the model of ``layout`` and loads ``path`` into it.

    Args:
        layout: "mae", "classify", "timm" or "hf".
        geometry: Of what is in the file.
        path: The exported file, a .safetensors or .npz.
        settings: "norm_eps" (default 1e-6), "mask_ratio" and "norm_pix" are set where the PyTorch
            model has them.
    """
    if layout == "hf":
        return _transformers(geometry, path, settings)
    if layout == "mae" and geometry.has_decoder:
        return _official(geometry, path, settings)
    return _timm(geometry, path, settings)


def _load(path: str) -> str:
    """The expression that gives the state dict."""
    if path.endswith(".npz"):
        arrays = f"numpy.load({path!r}).items() if not k.startswith('__')"
        return f"{{k: torch.from_numpy(v) for k, v in {arrays}}}"
    return f"safetensors.torch.load_file({path!r})"


def _imports(path: str, *more: str) -> str:
    names = ("numpy", "torch") if path.endswith(".npz") else ("safetensors.torch",)
    return f"import {', '.join(dict.fromkeys((*names, *more)))}"


def _timm(g: Geometry, path: str, settings: Mapping[str, Any]) -> str:
    pool = {"gap": "avg", "cls": "token", "none": "token" if g.cls else ""}[g.pool]
    own_eps = _eps(settings) != 1e-6  # timm's default
    arguments = (
        f"img_size={g.image_size}, patch_size={g.patch_size}, in_chans={g.channels}, "
        f"embed_dim={g.dim}, depth={g.depth}, num_heads={g.heads}, "
        f"mlp_ratio={_ratio(g.mlp_hidden, g.dim)}, num_classes={g.num_classes}, "
        f"class_token={g.cls}, global_pool={pool!r}"
    ) + (f", {_norm_layer(settings)}" if own_eps else "")
    imports = _imports(path, *(("torch", "functools") if own_eps else ()), "timm")
    return (
        f"{imports}; model = timm.models.VisionTransformer({arguments})\n"
        f"model.load_state_dict({_load(path)})"
    )


def _official(g: Geometry, path: str, settings: Mapping[str, Any]) -> str:
    arguments = (
        f"img_size={g.image_size[0]}, patch_size={g.patch_size}, in_chans={g.channels}, "
        f"embed_dim={g.dim}, depth={g.depth}, num_heads={g.heads}, "
        f"mlp_ratio={_ratio(g.mlp_hidden, g.dim)}, decoder_embed_dim={g.decoder_dim}, "
        f"decoder_depth={g.decoder_depth}, decoder_num_heads={g.decoder_heads}, "
        f"{_norm_layer(settings)}"
    )
    return (
        f"{_imports(path, 'torch', 'functools', 'models_mae')}; "
        f"model = models_mae.MaskedAutoencoderViT({arguments})\n"
        f"model.load_state_dict({_load(path)})"
    )


def _transformers(g: Geometry, path: str, settings: Mapping[str, Any]) -> str:
    config = (
        f"image_size={g.image_size[0]}, patch_size={g.patch_size}, num_channels={g.channels}, "
        f"hidden_size={g.dim}, num_hidden_layers={g.depth}, num_attention_heads={g.heads}, "
        f"intermediate_size={g.mlp_hidden}, layer_norm_eps={_eps(settings)}"
    )
    config += _decoder_config(g, settings) if g.has_decoder else ", mask_ratio=0.0"
    model = "ViTMAEForPreTraining" if g.has_decoder else "ViTMAEModel"
    return (
        f"{_imports(path, 'transformers')}; config = transformers.ViTMAEConfig({config})\n"
        f"model = transformers.{model}.from_pretrained(None, config=config, "
        f"state_dict={_load(path)})"
    )


def _decoder_config(g: Geometry, settings: Mapping[str, Any]) -> str:
    names = {"mask_ratio": "mask_ratio", "norm_pix": "norm_pix_loss"}
    known = [f", {names[key]}={settings[key]!r}" for key in names if key in settings]
    return (
        f", decoder_hidden_size={g.decoder_dim}, decoder_num_hidden_layers={g.decoder_depth}, "
        f"decoder_num_attention_heads={g.decoder_heads}, "
        f"decoder_intermediate_size={g.decoder_mlp_hidden}{''.join(known)}"
    )


def _norm_layer(settings: Mapping[str, Any]) -> str:
    return f"norm_layer=functools.partial(torch.nn.LayerNorm, eps={_eps(settings)})"


def _eps(settings: Mapping[str, Any]) -> float:
    return settings.get("norm_eps", 1e-6)


def _ratio(hidden: int, dim: int) -> int | float:
    return hidden // dim if hidden % dim == 0 else hidden / dim
