"""The line or two of PyTorch that load an exported file, written for the very model in it."""

from collections.abc import Mapping
from typing import Any

from maskjax.errors import UserError
from maskjax.interop import folders, hub_config
from maskjax.nn.families import AnyGeometry, Backbone
from maskjax.nn.geometry import Geometry


def snippet(layout: str, geometry: AnyGeometry, path: str, settings: Mapping[str, Any]) -> str:
    """PyTorch code that builds the model of ``layout`` and loads ``path`` into it.

    Args:
        layout: Of the file.
        geometry: Of what is in the file.
        path: The exported file, a .safetensors or .npz, or a folder.
        settings: "mask_ratio" and "norm_pix" are set where the PyTorch model has them.
    """
    if folders.is_folder_name(path):
        return _folder(layout, geometry, path)
    if layout.startswith("hf"):
        return _transformers(layout, geometry, path, settings)
    if isinstance(geometry, Backbone) and layout in hub_config.OF_TIMM:
        return _timm_stages(geometry, path)
    if layout == "mae" and geometry.has_decoder:
        return _official(geometry, path)
    if layout in ("mae", "classify", "timm"):
        return _timm(geometry, path)
    return f"{_imports(path)}\nstate = {_load(path)}  # for load_state_dict of the official model"


def _folder(layout: str, geometry: AnyGeometry, path: str) -> str:
    """A folder says everything itself."""
    if not layout.startswith("hf"):
        source = f"local-dir:{path}"
        return f"import timm\nmodel = timm.create_model({source!r}, pretrained=True)"
    config = hub_config.transformers_config(layout, geometry, {})
    (name,) = config["architectures"]
    auto = name if "For" in name or "With" in name else "AutoModel"
    return f"import transformers\nmodel = transformers.{auto}.from_pretrained({path!r})"


def _load(path: str) -> str:
    """The expression that gives the state dict."""
    if path.endswith(".npz"):
        arrays = f"numpy.load({path!r}).items() if not k.startswith('__')"
        return f"{{k: torch.from_numpy(v) for k, v in {arrays}}}"
    return f"safetensors.torch.load_file({path!r})"


def _imports(path: str, *more: str) -> str:
    names = ("numpy", "torch") if path.endswith(".npz") else ("safetensors.torch",)
    return f"import {', '.join(dict.fromkeys((*names, *more)))}"


def _timm(g: Geometry, path: str) -> str:
    arguments = hub_config.timm_arguments(g)
    shown = {**arguments, "img_size": tuple(arguments["img_size"])}
    words = [f"{name}={value!r}" for name, value in shown.items()]
    own_eps = g.eps != hub_config.TIMM_NORM_EPS[g.pre_norm]
    words += [_norm_layer(g)] if own_eps else []
    name = hub_config.timm_architecture(g)
    plain = name == "vit_base_patch16_224"
    build = "timm.models.VisionTransformer(" if plain else f"timm.create_model({name!r}, "
    imports = _imports(path, *(("torch", "functools") if own_eps else ()), "timm")
    return f"{imports}; model = {build}{', '.join(words)})\nmodel.load_state_dict({_load(path)})"


def _timm_stages(g: Backbone, path: str) -> str:
    try:
        name = hub_config.timm_architecture(g)
    except UserError:
        return f"{_imports(path)}\nstate = {_load(path)}  # for load_state_dict of a {g.FAMILY}"
    words = ", ".join(f"{key}={value!r}" for key, value in hub_config.timm_arguments(g).items())
    model = f"model = timm.create_model({name!r}, {words})"
    options = "" if getattr(g, "final_norm", True) else ", strict=False"  # timm's own norm stays
    return f"{_imports(path, 'timm')}; {model}\nmodel.load_state_dict({_load(path)}{options})"


def _official(g: Geometry, path: str) -> str:
    ratio = hub_config.timm_arguments(g)["mlp_ratio"]
    arguments = (
        f"img_size={g.image_size[0]}, patch_size={g.patch_size}, in_chans={g.channels}, "
        f"embed_dim={g.dim}, depth={g.depth}, num_heads={g.heads}, "
        f"mlp_ratio={ratio}, decoder_embed_dim={g.decoder_dim}, "
        f"decoder_depth={g.decoder_depth}, decoder_num_heads={g.decoder_heads}, "
        f"{_norm_layer(g)}"
    )
    return (
        f"{_imports(path, 'torch', 'functools', 'models_mae')}; "
        f"model = models_mae.MaskedAutoencoderViT({arguments})\n"
        f"model.load_state_dict({_load(path)})"
    )


def _transformers(layout: str, g: AnyGeometry, path: str, settings: Mapping[str, Any]) -> str:
    config = hub_config.transformers_config(layout, g, settings)
    (name,), kind = config.pop("architectures"), config.pop("model_type")
    labels = {"num_labels": g.num_classes} if g.num_classes else {}
    ignored = ("id2label", "label2id")
    words = {key: value for key, value in config.items() if key not in ignored} | labels
    shown = ", ".join(f"{key}={value!r}" for key, value in words.items())
    return (
        f"{_imports(path, 'transformers')}; "
        f"config = transformers.AutoConfig.for_model({kind!r}, {shown})\n"
        f"model = transformers.{name}.from_pretrained(None, config=config, "
        f"state_dict={_load(path)})"
    )


def _norm_layer(g: Geometry) -> str:
    return f"norm_layer=functools.partial(torch.nn.LayerNorm, eps={g.eps})"
