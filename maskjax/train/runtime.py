"""What a process sets up once, the compile cache; and what it runs on."""

import os
import pathlib

import jax
from jax.sharding import Mesh

from maskjax.train import processes


def enable_compile_cache(directory: str | None = None) -> str:
    """Keeps compiled programs on disk, so that a second start of a run compiles nothing.

    JAX_ENABLE_COMPILATION_CACHE=false in the environment turns it off.

    Args:
        directory: default JAX_COMPILATION_CACHE_DIR, else ~/.cache/maskjax/jax.

    Returns:
        The directory in use.
    """
    default = pathlib.Path("~/.cache/maskjax/jax").expanduser()
    directory = directory or os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(default)
    jax.config.update("jax_compilation_cache_dir", directory)
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    return directory


def device_report(mesh: Mesh) -> str:
    """One line: processes expected and present, devices, their kind and the mesh."""
    expected = len(processes.names())
    present = f"processes: {expected} expected, {jax.process_count()} present"
    return f"{present}; {devices_of(mesh)}"


def devices_of(mesh: Mesh) -> str:
    """How many devices, their kind and the mesh: "8 device(s) (TPU v4), mesh data 8 x ..."."""
    kinds = sorted({device.device_kind for device in mesh.devices.flat})
    axes = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    return f"{mesh.devices.size} device(s) ({', '.join(kinds)}), mesh {axes}"
