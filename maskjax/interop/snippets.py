"""The line or two of PyTorch that load an exported file, written for the very model in it."""

from collections.abc import Mapping
from typing import Any

from maskjax.interop.geometry import Geometry


def snippet(layout: str, geometry: Geometry, path: str, settings: Mapping[str, Any]) -> str:
    """PyTorch code that builds the model of ``layout`` and loads ``path`` into it.

    Args:
        layout: "mae", "classify", "timm" or "hf".
        geometry: Of what is in the file.
        path: The exported file, a .safetensors or .npz.
        settings: "mask_ratio" and "norm_pix" are set where the PyTorch model has them.
    """
    if layout == "hf":
        return _transformers(geometry, path, settings)
    if layout == "mae" and geometry.has_decoder:
        return _official(geometry, path)
    return _timm(geometry, path)


def _load(path: str) -> str:
    """(the import, the expression) that give the state dict."""
    if path.endswith(".npz"):
        return (
            "{k: torch.from_numpy(v) for k, v in numpy.load("
            f"{path!r}).items() if not k.startswith('__')}}"
        )
    return f"safetensors.torch.load_file({path!r})"


def _imports(path: str) -> str:
    return "import numpy, torch" if path.endswith(".npz") else "import safetensors.torch"


def _timm(g: Geometry, path: str) -> str:
    pool = {"gap": "avg", "cls": "token", "none": "token" if g.cls else ""}[g.pool]
    arguments = (
        f"img_size={g.image_size}, patch_size={g.patch_size}, in_chans={g.channels}, "
        f"embed_dim={g.dim}, depth={g.depth}, num_heads={g.heads}, "
        f"mlp_ratio={_ratio(g.mlp_hidden, g.dim)}, num_classes={g.num_classes}, "
        f"class_token={g.cls}, global_pool={pool!r}"
    )
    return (
        f"{_imports(path)}, timm; model = timm.models.VisionTransformer({arguments})\n"
        f"model.load_state_dict({_load(path)})"
    )


def _official(g: Geometry, path: str) -> str:
    arguments = (
        f"img_size={g.image_size[0]}, patch_size={g.patch_size}, in_chans={g.channels}, "
        f"embed_dim={g.dim}, depth={g.depth}, num_heads={g.heads}, "
        f"mlp_ratio={_ratio(g.mlp_hidden, g.dim)}, decoder_embed_dim={g.decoder_dim}, "
        f"decoder_depth={g.decoder_depth}, decoder_num_heads={g.decoder_heads}, "
        "norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-6)"
    )
    return (
        f"{_imports(path)}, torch, functools, models_mae; "
        f"model = models_mae.MaskedAutoencoderViT({arguments})\n"
        f"model.load_state_dict({_load(path)})"
    )


def _transformers(g: Geometry, path: str, settings: Mapping[str, Any]) -> str:
    config = (
        f"image_size={g.image_size[0]}, patch_size={g.patch_size}, num_channels={g.channels}, "
        f"hidden_size={g.dim}, num_hidden_layers={g.depth}, num_attention_heads={g.heads}, "
        f"intermediate_size={g.mlp_hidden}, layer_norm_eps=1e-6"
    )
    config += _decoder_config(g, settings) if g.has_decoder else ", mask_ratio=0.0"
    model = "ViTMAEForPreTraining" if g.has_decoder else "ViTMAEModel"
    return (
        f"{_imports(path)}, transformers; config = transformers.ViTMAEConfig({config})\n"
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


def _ratio(hidden: int, dim: int) -> int | float:
    return hidden // dim if hidden % dim == 0 else hidden / dim
