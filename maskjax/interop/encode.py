"""Features from the weights of any layout: images in, named features out."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from maskjax.errors import UserError
from maskjax.interop import backbones
from maskjax.interop.folders import Weights, read
from maskjax.interop.load import ImportReport, import_weights
from maskjax.nn.families import AnyGeometry
from maskjax.nn.geometry import Geometry

Encode = Callable[[Any, Any], dict[str, Any]]


def load_encoder(
    path: str,
    geometry: AnyGeometry | None = None,
    format: str | None = None,
) -> tuple[dict[str, Any], ImportReport, dict[str, tuple[float, ...]]]:
    """(parameters, report, {"mean", "std"} if the file tells them) of an encoder's weights.

    Raises:
        UserError: As `import_weights`.
    """
    params, report = import_weights(path, None, geometry, format, encoder_only=True)
    return params, report, pixel_stats(read_settings(path))


def read_settings(path: str) -> dict[str, Any]:
    """What a file's metadata, or the files beside it in a folder, say of the input."""
    found: Weights = read(path)
    settings = {k: _value(v) for k, v in found.metadata.items() if k in ("mean", "std")}
    processor = found.processor
    names = {"image_mean": "mean", "image_std": "std"}
    return {names[k]: processor[k] for k in names if k in processor} | settings


def pixel_stats(settings: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    """Channel mean and std, where both are there."""
    if not {"mean", "std"} <= settings.keys():
        return {}
    return {key: tuple(float(x) for x in settings[key]) for key in ("mean", "std")}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def encode_function(geometry: AnyGeometry, stats: Mapping[str, tuple[float, ...]]) -> Encode:
    """(params, images) -> {"tokens", "mean", "cls", ...}, jitted.

    Args:
        geometry: Of the encoder.
        stats: "mean" and "std" of pixels in 0..1, for images in uint8; {} = not known.
    """
    import jax

    from maskjax.targets.pixels import standardize

    mean, std = (stats.get(key, (0.0,) * geometry.channels) for key in ("mean", "std"))

    @jax.jit
    def apply(params: Any, images: Any) -> dict[str, Any]:
        if not isinstance(geometry, Geometry):
            return backbones.run(geometry, params, standardize(images, mean, std))[0]
        from maskjax.nn.teacher_vit import TeacherViT, to_patches

        model = TeacherViT(geometry.encoder_only())
        patches = standardize(to_patches(images, geometry), mean, std)
        return model.apply({"params": params}, patches)[0]

    def encode(params: Any, images: Any) -> dict[str, Any]:
        images = jax.numpy.asarray(images)
        _check_images(images, geometry, stats)
        return apply(params, images)

    return encode


def _check_images(images: Any, geometry: AnyGeometry, stats: Mapping[str, Any]):
    clip = isinstance(geometry, Geometry) and geometry.frames > 0
    frames = (geometry.frames,) if clip else ()
    wanted = (*frames, *geometry.image_size, geometry.channels)
    if tuple(images.shape[1:]) != wanted:
        found = tuple(images.shape)
        raise UserError(f"images are {found}; this encoder takes (batch, {str(wanted)[1:]}")
    if images.dtype.kind in "iu" and not stats:
        raise UserError(
            "the weights do not say the channel mean and std: give maskjax.load(mean=, std=), or "
            "images in float32, standardised"
        )
