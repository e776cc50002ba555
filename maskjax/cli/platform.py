"""Which platform jax should look for, decided before it is imported."""

import glob
import importlib.util
import os
import re
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


_EMULATED = re.compile(r"--xla_force_host_platform_device_count=(\d+)")
_STEADY = {
    # Independent collectives start in one order, the same on each device.
    "--xla_cpu_enable_concurrency_optimized_scheduler": "false",
    # A device that comes late on a busy machine is waited for; XLA's 40 s end the process.
    "--xla_cpu_collective_call_terminate_timeout_seconds": "300",
}
_THREADS = 8  # for each emulated device


def steady_emulated_devices():
    """With several emulated CPU devices: settings under which they do not wait for ever.

    A collective holds a thread of XLA's pool, which has one thread for each device, until all
    devices have come; those that need a second thread to get there never do. NPROC is the
    environment variable from which XLA takes the size of the pool. What XLA_FLAGS and NPROC say
    already stands.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    emulated = _EMULATED.search(flags)
    if emulated is None:
        return
    missing = [f"{flag}={value}" for flag, value in _STEADY.items() if flag not in flags]
    os.environ["XLA_FLAGS"] = " ".join([flags, *missing])
    os.environ.setdefault("NPROC", str(_THREADS * int(emulated[1])))


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
