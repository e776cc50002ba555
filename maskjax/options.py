"""From entries of `config.model` to the values that `nn` and `masking` take, with clear errors."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from maskjax import masking
from maskjax.errors import UserError
from maskjax.method import Batch, require
from maskjax.nn import teachers
from maskjax.nn.conv_autoencoder import ConvSize
from maskjax.nn.geometry import Geometry
from maskjax.nn.swin import SwinSize
from maskjax.nn.vit import Compute, Size

# Shared by the DEFAULTS of methods on images; mean and std are ImageNet's.
IMAGE = {
    "image_size": (224, 224),
    "patch_size": (16, 16),
    "channels": 3,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}
# Shared by the DEFAULTS of methods built on vision transformers.
COMPUTE = {
    "dtype": "float32",
    "scan": "auto",
    "remat": "none",
    "attention": "auto",
    "lean": True,  # False: plain autodiff everywhere (see `maskjax.nn.lean`), as `jax.jvp` needs it
}

_AUTO_ATTENTION = {"cpu": "einsum", "gpu": "cudnn_long", "tpu": "pallas_long"}


def compute(cfg: ConfigDict) -> Compute:
    """Reads dtype, scan, remat, attention; what is "auto" is decided for this process's devices.

    `lean` is only checked here: `build_method` sees to it. See `for_platform`.

    Raises:
        UserError: for a value that is not among the valid ones.
    """
    require(cfg.remat in ("none", "dots", "full"), "model.remat", cfg.remat, "none, dots or full")
    given = {"scan": cfg.scan, "attention": cfg.attention}
    decided = for_platform(given, jax.default_backend())
    scan, attention = decided["scan"], decided["attention"]
    kinds = (*_AUTO_ATTENTION.values(), "xla", "cudnn", "pallas")
    what = "auto, einsum, xla, cudnn or pallas"
    require(attention in kinds, "model.attention", attention, what)
    require(scan in ("on", "off"), "model.scan", scan, "auto, on or off")
    require(isinstance(cfg.lean, bool), "model.lean", cfg.lean, "must be True or False")
    return Compute(dtype(cfg), scan == "on", cfg.remat, attention)


def for_platform(model: dict[str, Any], platform: str) -> dict[str, Any]:
    """Entries of `config.model` with what depends on the platform ("cpu", "gpu", "tpu") decided.

    A step may be compiled for devices that this process does not have. `scan` is one loop over the
    layers but on CPU. `attention` is a fused kernel where there are enough tokens for one, if the
    platform has one: cuDNN's on GPU, jax's Pallas kernel on TPU; see `nn.attention.Attention`.
    """
    scan = "off" if platform == "cpu" else "on"
    decided = {"scan": scan, "attention": _AUTO_ATTENTION.get(platform, "einsum")}
    return model | {key: value for key, value in decided.items() if model.get(key) == "auto"}


def dtype(cfg: ConfigDict) -> jnp.dtype:
    """Reads dtype, of matmul operands.

    Raises:
        UserError: unless it is float32 or bfloat16.
    """
    require(cfg.dtype in ("float32", "bfloat16"), "model.dtype", cfg.dtype, "float32 or bfloat16")
    return jnp.dtype(cfg.dtype)


def size(cfg: ConfigDict, path: str) -> Size:
    """Reads dim, depth, heads, mlp_ratio of the transformer at `config.<path>`.

    Raises:
        UserError: if one is no positive number, the heads do not divide the width, or the width is
            not a multiple of 4 (sin-cos positions).
    """
    for key in ("dim", "depth", "heads", "mlp_ratio"):
        value = cfg[key]
        kind = int | float if key == "mlp_ratio" else int
        what = "must be a positive number" if key == "mlp_ratio" else "must be a positive int"
        require(isinstance(value, kind) and value > 0, f"{path}.{key}", value, what)
    require(cfg.dim % 4 == 0, f"{path}.dim", cfg.dim, "must be a multiple of 4 (sin-cos table)")
    what = f"must divide {path}.dim = {cfg.dim}"
    require(cfg.dim % cfg.heads == 0, f"{path}.heads", cfg.heads, what)
    return Size(cfg.dim, cfg.depth, cfg.heads, cfg.mlp_ratio)


def swin_size(cfg: ConfigDict, path: str) -> SwinSize:
    """Reads dim, depths, heads, window, mlp_ratio of the Swin at `config.<path>`.

    Raises:
        UserError: if one is no positive number, or the heads do not divide the stages' widths.
    """
    depths, heads = tuple(cfg.depths), tuple(cfg.heads)
    whole = lambda *values: all(isinstance(v, int) and v > 0 for v in values)  # noqa: E731
    for key, values in (("depths", depths), ("heads", heads)):
        fits = values and whole(*values)
        require(fits, f"{path}.{key}", values, "must be positive ints, one for each stage")
    for key in ("dim", "window"):
        require(whole(cfg[key]), f"{path}.{key}", cfg[key], "must be a positive int")
    require(cfg.mlp_ratio > 0, f"{path}.mlp_ratio", cfg.mlp_ratio, "must be a positive number")
    what = f"must be as many as {path}.depths = {depths}"
    require(len(heads) == len(depths), f"{path}.heads", heads, what)
    size = SwinSize(cfg.dim, depths, heads, cfg.window, cfg.mlp_ratio)
    widths = [size.stage(i).dim for i in range(len(depths))]
    divide = all(width % num == 0 for width, num in zip(widths, heads, strict=True))
    require(divide, f"{path}.heads", heads, f"must divide the widths {widths} of the stages")
    return size


def conv_size(cfg: ConfigDict, path: str) -> ConvSize:
    """Reads dims, depths, patches, mlp_ratios and heads of the encoder at `config.<path>`.

    Raises:
        UserError: unless there are three positive numbers each, the last fit for a transformer.
    """
    for key in ("dims", "depths", "patches", "mlp_ratios"):
        values, kind = tuple(cfg[key]), int | float if key == "mlp_ratios" else int
        fits = len(values) == 3 and all(isinstance(v, kind) and v > 0 for v in values)
        require(fits, f"{path}.{key}", values, "must be three positive numbers, one for each stage")
    ratios = tuple(float(ratio) for ratio in cfg.mlp_ratios)
    size = ConvSize(tuple(cfg.dims), tuple(cfg.depths), tuple(cfg.patches), ratios, cfg.heads)
    fits = size.dims[2] % 4 == 0
    require(fits, f"{path}.dims", size.dims, "the last must be a multiple of 4 (sin-cos table)")
    divides = isinstance(cfg.heads, int) and cfg.heads > 0 and size.dims[2] % cfg.heads == 0
    require(
        divides, f"{path}.heads", cfg.heads, f"must divide the last of {path}.dims = {size.dims}"
    )
    return size


def pair(value: Any, path: str) -> tuple[int, int]:
    """(height, width) from one int (also as a tuple of one) or a pair of ints.

    Raises:
        UserError: for anything else, or a number that is not positive.
    """
    both = tuple(value) if isinstance(value, list | tuple) else (value,)
    both = both * 2 if len(both) == 1 else both
    valid = len(both) == 2 and all(isinstance(v, int) and v > 0 for v in both)
    require(valid, path, value, "must be a positive int or (height, width)")
    return both


def patch_grid(cfg: ConfigDict) -> tuple[tuple[int, int], tuple[int, int]]:
    """(rows, columns) of the grid, and the patch (height, width), from image_size, patch_size.

    Raises:
        UserError: unless the patch divides the image.
    """
    image = pair(cfg.image_size, "model.image_size")
    patch = pair(cfg.patch_size, "model.patch_size")
    divides = image[0] % patch[0] == 0 and image[1] % patch[1] == 0
    what = f"does not divide model.image_size = {image}"
    require(divides, "model.patch_size", patch, what)
    return masking.patches.grid_of(image, patch), patch


def check_pixels(cfg: ConfigDict, example: Batch, field: str = "image"):
    """Checks channels, mean, std, and that the batches hold the images the model expects.

    With field="video" they are clips of `num_frames` such images.

    Raises:
        UserError: if they do not fit each other.
    """
    require_fields(example, field)
    positive = isinstance(cfg.channels, int) and cfg.channels > 0
    require(positive, "model.channels", cfg.channels, "must be a positive int")
    for key in ("mean", "std"):
        fits = isinstance(cfg[key], list | tuple) and len(cfg[key]) == cfg.channels
        require(fits, f"model.{key}", cfg[key], f"needs {cfg.channels} channels")
    require(min(cfg.std) > 0, "model.std", tuple(cfg.std), "must be positive")
    expected = (*pair(cfg.image_size, "model.image_size"), cfg.channels)
    axes, names = "(height, width, channels)", "model.image_size, model.channels"
    if field == "video":
        expected = (cfg.num_frames, *expected)
        axes, names = "(frames, height, width, channels)", f"model.num_frames, {names}"
    found = tuple(example[field].shape[1:])
    require(found == expected, names, expected, f"the data has {field}s of {axes} {found}")


def require_fields(example: Batch, *names: str):
    """Checks that batches hold the fields that a method trains on, such as "image" and "other".

    Raises:
        UserError: if one is missing.
    """
    for name in names:
        if name not in example:
            there = ", ".join(field for field in example if field != "position")
            raise UserError(
                f"config.data.path: this method trains on {' and '.join(names)}, the data has"
                f" {there}; take another config.method or other data"
            )


def visible_tokens(mask_ratio: float, num_tokens: int, path: str = "model.mask_ratio") -> int:
    """How many tokens a hidden share of `mask_ratio`, at `config.<path>`, leaves visible.

    Raises:
        UserError: if the ratio is outside [0, 1) or leaves nothing visible.
    """
    number = isinstance(mask_ratio, int | float)
    require(number, path, mask_ratio, "must be a number in [0, 1)")
    try:
        return masking.count_visible(num_tokens, mask_ratio)
    except ValueError as error:
        require(False, path, mask_ratio, str(error))
        raise


# A group `teacher` of `config.model`, for DEFAULTS: weights of a frozen encoder.
TEACHER = {
    "file": "",  # file or folder of weights, or of a run; "random" = untrained, for tests
    "format": "",  # a format of docs/weights.md; "" = told by the file
    "name": "mae_b16",  # a published encoder, see nn/teachers.py
    "image_size": (),  # what it sees; () = the student's
    "mean": (),  # of its pixels; () = CLIP's for a clip_* of 3 channels, else the student's
    "std": (),
    "blocks": 0,  # runs only its first blocks, without its final norm; 0 = all
    "change": (),  # "key=value" of its geometry: ("dim=24", "depth=2")
}


def teacher_geometry(cfg: ConfigDict, path: str, image_size: tuple[int, int]) -> Geometry:
    """The geometry of the encoder that the group at `config.<path>` names.

    Args:
        cfg: the group, with the entries of `TEACHER`.
        path: where it is, for errors.
        image_size: of the student.

    Raises:
        UserError: naming the entry that does not fit.
    """
    try:
        whole = teachers.teacher_geometry(cfg.name, cfg.change)
    except UserError as error:
        raise UserError(f"config.{path}: {error}") from error
    size = pair(cfg.image_size, f"{path}.image_size") if cfg.image_size else tuple(image_size)
    what = f"its sides must be multiples of the teacher's patch size {whole.patch_size}"
    divides = all(side % whole.patch_size == 0 for side in size)
    require(divides, f"{path}.image_size", size, what)
    fits = 0 <= cfg.blocks <= whole.depth
    require(fits, f"{path}.blocks", cfg.blocks, f"the teacher has {whole.depth}")
    partial = {"depth": cfg.blocks, "final_norm": False, "projection": 0} if cfg.blocks else {}
    return dataclasses.replace(whole, image_size=size, **partial)
