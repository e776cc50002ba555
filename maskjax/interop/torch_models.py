"""The PyTorch model of an exported file or folder, and its activations, where PyTorch is there."""

import functools
from pathlib import Path
from typing import Any

import numpy as np

from maskjax.errors import UserError
from maskjax.interop import folders, hub_config
from maskjax.nn.families import AnyGeometry, Backbone, SwinGeometry
from maskjax.nn.geometry import Geometry

Activations = dict[str, np.ndarray]
STAGED = ("resnet", "timm_swin", "timm_convnext")


class UnavailableError(Exception):
    """Why a model cannot be run in PyTorch here, in words."""


def activations(
    layout: str, geometry: AnyGeometry, path: Path, settings: dict[str, Any], images: np.ndarray
) -> Activations:
    """What the model of another library computes with an exported file.

    Args:
        layout: Of the file.
        geometry: Of what is in the file.
        path: The file or folder.
        settings: As of the export.
        images: float32[B, (T,) C, H, W], standardised.

    Returns:
        {"block 0": [B, E + N, D], ..., "cls" and "tokens" after the final norm, "logits",
        "projection", "decoder block 0", ..., "prediction"}, what the library shows of these; of
        networks in stages {"stage 1": [B, D, H, W], ..., "logits"}.

    Raises:
        UnavailableError: A library is missing, or there is no library for this layout.
    """
    runs = {"hf_swin": _hf_swin, **dict.fromkeys(STAGED, _stages)}
    runs |= dict.fromkeys(("timm", "classify", "mae"), _timm)
    run = runs.get(layout, _transformers if layout.startswith("hf") else None)
    if run is None:
        raise UnavailableError(f"layout {layout} belongs to official code that is no package")
    try:
        import torch

        with torch.no_grad():
            return run(layout, geometry, path, settings, torch.from_numpy(images))
    except (ImportError, RuntimeError) as error:
        # torchvision beside another build of torch fails with a RuntimeError on import.
        if isinstance(error, RuntimeError) and "torchvision" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        raise UnavailableError(f"{reason} (pip install 'maskjax[torch]')") from None


def _timm(layout: str, geometry: Geometry, path: Path, settings: dict, images: Any) -> Activations:
    import timm
    import torch

    encoder = geometry.encoder_only()
    arguments = hub_config.timm_arguments(encoder)
    if geometry.eps != hub_config.TIMM_NORM_EPS[geometry.pre_norm]:
        arguments["norm_layer"] = functools.partial(torch.nn.LayerNorm, eps=geometry.eps)
    model = timm.create_model(hub_config.timm_architecture(encoder), **arguments).eval()
    state = {key: torch.tensor(array) for key, array in folders.read(path).arrays.items()}
    if layout == "mae":  # timm has no decoder; all that is left must fit
        state = {key: tensor for key, tensor in state.items() if key in model.state_dict()}
    model.load_state_dict(state)
    seen, last = _blocks(model.blocks, "block", lambda: model.forward_features(images))
    out = {"logits": model(images)} if geometry.num_classes else {}
    return _numpy({**seen, **_split(last, geometry), **out})


def _stages(
    layout: str, geometry: Backbone, path: Path, settings: dict, images: Any
) -> Activations:
    import timm
    import torch

    try:
        name = hub_config.timm_architecture(geometry)
    except UserError as error:
        raise UnavailableError(str(error)) from None
    model = timm.create_model(name, **hub_config.timm_arguments(geometry)).eval()
    state = folders.read(path).arrays.items()
    whole = getattr(geometry, "final_norm", True)  # timm always has one
    model.load_state_dict({key: torch.tensor(array) for key, array in state}, strict=whole)
    if isinstance(geometry, SwinGeometry):
        found, last = _swin_blocks(model.layers, lambda: model.forward_features(images))
        out = {"logits": model(images)} if geometry.num_classes else {}
        return _numpy({**found, "tokens": last.flatten(1, 2), **out})
    first, name = (0, "stages.") if geometry.FAMILY == "convnext" else (1, "layer")
    numbers = range(first, first + len(geometry.blocks))
    stages = [model.get_submodule(f"{name}{s}") for s in numbers]
    seen, out = _blocks(stages, "stage", lambda: model(images), first=1)
    last = {"logits": out} if geometry.num_classes else {"mean": out}
    return _numpy(seen | (last if whole else {}))


def _hf_swin(
    layout: str, geometry: SwinGeometry, path: Path, settings: dict, images: Any
) -> Activations:
    import transformers

    model = _from_pretrained(transformers, layout, geometry, path, settings)
    base = model.swin if geometry.num_classes or geometry.pixel_head else model
    found, out = _swin_blocks(base.encoder.layers, lambda: base(images))
    heads = {"logits": model(images).logits} if geometry.num_classes else {}
    if geometry.pixel_head and len(set(geometry.image_size)) == 1:  # transformers takes no other
        heads["prediction"] = model(images).reconstruction
    return _numpy({**found, "tokens": out.last_hidden_state, **heads})


def _swin_blocks(layers: Any, run: Any) -> tuple[dict[str, Any], Any]:
    """({"block s.b": [B, N, D]}, result) of a run."""
    names = [f"{s}.{b}" for s, layer in enumerate(layers) for b in range(len(layer.blocks))]
    blocks = [block for layer in layers for block in layer.blocks]
    seen, result = _blocks(blocks, "block", run)
    flat = (x.flatten(1, 2) if x.ndim == 4 else x for x in seen.values())
    return {f"block {name}": x for name, x in zip(names, flat, strict=True)}, result


def _transformers(
    layout: str, geometry: Geometry, path: Path, settings: dict, images: Any
) -> Activations:
    import transformers

    model = _from_pretrained(transformers, layout, geometry, path, settings)
    if layout == "hf":
        return _numpy(_mae(model, geometry, images))
    out = model(images, output_hidden_states=True)
    hidden = dict(enumerate(out.hidden_states[1:]))
    found = {f"block {i}": x for i, x in hidden.items()}
    names = {"logits": "logits", "image_embeds": "projection"}
    found |= {names[key]: out[key] for key in names if out.get(key) is not None}
    if layout != "hf_clip" and "last_hidden_state" in out:  # CLIP norms its class token only
        found |= _split(out.last_hidden_state, geometry)
    return _numpy(found)


def _from_pretrained(
    transformers: Any, layout: str, geometry: AnyGeometry, path: Path, settings: dict
) -> Any:
    import torch

    config = hub_config.transformers_config(layout, geometry, settings)
    (name,), kind = config.pop("architectures"), config.pop("model_type")
    if path.is_dir():
        return getattr(transformers, name).from_pretrained(str(path)).eval()
    state = {key: torch.tensor(array) for key, array in folders.read(path).arrays.items()}
    config = transformers.AutoConfig.for_model(kind, **config)
    model = getattr(transformers, name).from_pretrained(None, config=config, state_dict=state)
    return model.eval()


def _mae(model: Any, geometry: Geometry, images: Any) -> dict[str, Any]:
    """ViTMAE with nothing masked: noise in raster order keeps the tokens where they are."""
    import torch

    encoder = model.vit if geometry.has_decoder else model
    encoder.config.mask_ratio = encoder.embeddings.config.mask_ratio = 0.0
    noise = torch.arange(float(geometry.num_patches))[None].repeat(len(images), 1)
    out = encoder(images, noise=noise, output_hidden_states=True)
    found = {f"block {i}": x for i, x in enumerate(out.hidden_states[1:])}
    found |= _split(out.last_hidden_state, geometry)
    if not geometry.has_decoder:
        return found
    blocks = model.decoder.decoder_layers
    decode = lambda: model.decoder(out.last_hidden_state, out.ids_restore)  # noqa: E731
    seen, decoded = _blocks(blocks, "decoder block", decode)
    return {**found, **seen, "prediction": decoded.logits}


def _split(last: Any, geometry: Geometry) -> dict[str, Any]:
    """Class and patch tokens of [B, E + N, D]; distillation and register tokens are left out."""
    found = {"cls": last[:, 0]} if geometry.cls else {}
    return {**found, "tokens": last[:, geometry.prefix_tokens :]}


def _blocks(modules: Any, name: str, run: Any, first: int = 0) -> tuple[dict[str, Any], Any]:
    """({"<name> i": its output}, result) of a run; i counts from ``first``."""
    seen: dict[str, Any] = {}

    def keep(key: str, module: Any, given: Any, out: Any):
        seen[key] = out[0] if isinstance(out, tuple) else out

    hooks = [
        module.register_forward_hook(functools.partial(keep, f"{name} {i}"))
        for i, module in enumerate(modules, first)
    ]
    result = run()
    for hook in hooks:
        hook.remove()
    return seen, result


def _numpy(found: dict[str, Any]) -> Activations:
    return {key: tensor.numpy() for key, tensor in found.items()}
