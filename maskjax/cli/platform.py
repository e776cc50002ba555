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
