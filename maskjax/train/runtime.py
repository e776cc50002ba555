"""What a process sets up once: the compile cache; and what it runs on."""

import os
import pathlib

import jax
from jax.sharding import Mesh


def enable_compile_cache(directory: str | None = None) -> str:
    """Keeps compiled programs on disk, so that a second start of a run compiles nothing.

    Args:
        directory: default JAX_COMPILATION_CACHE_DIR, else ~/.cache/maskjax/compile.

    Returns:
        The directory in use.
    """
    default = pathlib.Path("~/.cache/maskjax/compile").expanduser()
    directory = directory or os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(default)
    jax.config.update("jax_compilation_cache_dir", directory)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    return directory


def device_report(mesh: Mesh) -> str:
    """One line: processes, devices, their kind and the mesh."""
    kinds = sorted({device.device_kind for device in mesh.devices.flat})
    axes = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    return (
        f"process {jax.process_index() + 1} of {jax.process_count()},"
        f" {mesh.devices.size} device(s) ({', '.join(kinds)}), mesh {axes}"
    )
