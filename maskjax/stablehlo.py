"""The `encode` of a run as one portable program, weights inside (StableHLO, by `jax.export`)."""

import os
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp

from maskjax.errors import UserError
from maskjax.interop.files import write_whole
from maskjax.options import pair
from maskjax.saved import SavedRun, load_run

PLATFORMS = ("cpu", "cuda", "tpu")


def export_run(run: SavedRun, out: str | os.PathLike) -> str:
    """Writes `encode` of a run: uint8[b, H, W, C] -> {"cls", "mean", "tokens"}, any batch size b.

    The program runs on CPU, CUDA and TPU. jax reads such files for six months (its compatibility
    window for `jax.export`), so keep the weights too.

    Returns:
        What was written and how to run it, for people.

    Raises:
        UserError: if flatbuffers is not installed, or the file cannot be written.
    """
    functions, params, _ = load_run(run)
    height, width = pair(run.config.model.image_size, "model.image_size")
    shape = (height, width, run.config.model.channels)
    content = serialize(lambda images: functions["encode"](params, images), shape)
    path = pathlib.Path(out)
    write_whole(path, lambda temporary: temporary.write_bytes(content))
    lines = (
        f"{path}: {len(content):,} bytes, encode of {run.weights}, for {', '.join(PLATFORMS)}",
        "Run it with jax alone:",
        "import jax, pathlib",
        f"program = jax.export.deserialize(pathlib.Path({str(out)!r}).read_bytes())",
        f"features = program.call(images)  # uint8[b, {', '.join(map(str, shape))}]",
    )
    return "\n".join(lines)


def serialize(fn: Callable, shape: tuple[int, ...]) -> bytes:
    """A function of uint8[b, *shape] as bytes, for any b and every platform of `PLATFORMS`.

    Raises:
        UserError: if flatbuffers is not installed.
    """
    try:
        import flatbuffers  # noqa: F401
    except ImportError:
        raise UserError(
            "--format=stablehlo needs flatbuffers: pip install 'maskjax[stablehlo]'"
        ) from None
    from jax import export

    (size,) = export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((size, *shape), jnp.uint8)
    return bytes(export.export(jax.jit(fn), platforms=PLATFORMS)(images).serialize())
