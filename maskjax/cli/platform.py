"""Which platform jax should look for, decided before it is imported."""

import glob
import importlib.util
import os
import sys

# Device files of TPUs (accel, vfio) and of GPUs (NVIDIA, AMD, Intel, Windows' subsystem).
_ACCELERATORS = (
    "/dev/accel*",
    "/dev/vfio/[0-9]*",
    "/dev/nvidia[0-9]*",
    "/dev/kfd",
    "/dev/dri/renderD*",
    "/dev/dxg",
)
# Packages that compile for accelerators without having one (maskjax[aot], maskjax[aot-gpu]).
_COMPILERS = ("libtpu", "jax_plugins")


_EMULATED = "xla_force_host_platform_device_count"
_IN_ORDER = "--xla_cpu_enable_concurrency_optimized_scheduler"


def keep_collectives_in_order():
    """With several emulated CPU devices: a schedule in which all of them meet in the same order.

    XLA's default lets independent collectives of one step start in any order, each device in its
    own; on few cores they then wait for each other for ever. What XLA_FLAGS says already stands.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if _EMULATED in flags and _IN_ORDER not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_IN_ORDER}=false"


def choose_platform():
    """Sets JAX_PLATFORMS=cpu on a Linux machine without accelerators, unless it is set.

    With libtpu or a CUDA plugin installed for compiling only, jax would look for their devices
    first: seconds, warnings, and a lock file that other processes trip over.
    """
    if "JAX_PLATFORMS" in os.environ or not sys.platform.startswith("linux"):
        return
    installed = any(importlib.util.find_spec(name) for name in _COMPILERS)
    if installed and not any(map(glob.glob, _ACCELERATORS)):
        os.environ["JAX_PLATFORMS"] = "cpu"
