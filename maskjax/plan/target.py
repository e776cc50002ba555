"""Hardware to compile for, described by a name; none of it has to be there."""

import contextlib
import dataclasses
import functools
import importlib.util
import os
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from jax.experimental import topologies

from maskjax.errors import UserError
from maskjax.plan.hardware import GIB, GPU_NAME, hardware, valid_names

__all__ = ["GIB", "Target", "missing", "num_devices", "target"]

# NVIDIA H100 SXM5 80 GB as XLA describes it.
_H100 = """
gpu_device_info {
  threads_per_block_limit: 1024  threads_per_warp: 32  threads_per_core_limit: 2048
  shared_memory_per_block: 49152  shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  core_count: 132  fpus_per_core: 128  clock_rate_ghz: 1.98
  block_dim_limit_x: 2147483647  block_dim_limit_y: 65535  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000  device_memory_size: 84978434048  l2_cache_size: 52428800
  registers_per_core_limit: 65536  registers_per_block_limit: 65536
  cuda_compute_capability { major: 9 minor: 0 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
_GPUS = {"h100": _H100}
# There is no GPU to time kernels on, and without timing the Triton matmuls find no tile sizes.
_GPU_OPTIONS = {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False}

# For libtpu while it starts without a TPU: no look-up in the cloud's metadata, no complaint about
# their absence, and no lock file, which would keep two processes from compiling side by side.
_WITHOUT_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclasses.dataclass(frozen=True)
class Target:
    """Devices that programs can be compiled for, but not run on.

    Attributes:
        name: as it was asked for, such as "v5e:16x16".
        devices: one per chip (v2, v3: per core).
        memory: usable bytes of one device.
        options: that its compiler needs.
    """

    name: str
    devices: tuple[Any, ...] = dataclasses.field(repr=False)
    memory: int
    options: Mapping[str, Any]

    @property
    def device_kind(self) -> str:
        """As `jax.Device.device_kind`."""
        return self.devices[0].device_kind


@functools.lru_cache
def target(name: str) -> Target:
    """The target of a name: `v5e:16x16` (a TPU slice), `h100:4x8` (4 nodes of 8 GPUs).

    TPU slices need the package libtpu, GPUs the packages jax-cuda12-plugin and jax-cuda12-pjrt; no
    device, driver or CUDA. Start Python with JAX_PLATFORMS=cpu, so that jax looks for neither.

    Raises:
        UserError: for a name that describes nothing, or if the package is missing.
    """
    known = hardware(name)
    _require(name)
    return (_tpu if known.platform == "tpu" else _gpu)(name, known.memory)


def missing(name: str) -> str:
    """What has to be installed to compile for a target; "" if nothing is missing."""
    if GPU_NAME.fullmatch(name):
        return "" if _installed("jax_plugins.xla_cuda12") else "maskjax[aot-gpu]"
    return "" if _installed("libtpu") else "maskjax[aot]"


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


def _require(name: str):
    package = missing(name)
    if package:
        raise UserError(
            f"--topology={name}: needs its compiler: pip install '{package}' (Linux only)"
        )


def _tpu(name: str, memory: int) -> Target:
    # A v4 chip is one device only in its "megacore" form, which is what jobs get.
    chip = {"chip_config_name": "megacore"} if name.startswith("v4:") else {}
    with _environment(_WITHOUT_TPU):
        try:
            described = topologies.get_topology_desc(name, platform="tpu", **chip)
        except (jax.errors.JaxRuntimeError, NotImplementedError, ValueError) as error:
            message = f"--topology={name}: {_first_line(error)}\n{valid_names()}"
            raise UserError(message) from error
    return Target(name, tuple(described.devices), memory, {})


def _gpu(name: str, memory: int) -> Target:
    kind, _, size = name.partition(":")
    described = topologies.get_topology_desc(
        platform="cuda", target_config=_GPUS[kind], topology=f"1x{size}"
    )
    return Target(name, tuple(described.devices), memory, _GPU_OPTIONS)


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Sets what is not set, and takes it back: a real TPU may be used later in this process."""
    new = {key: value for key, value in values.items() if key not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for key in new:
            os.environ.pop(key, None)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def num_devices(name: str) -> int:
    """Devices of a target by its name alone, without its compiler."""
    return hardware(name).num_devices
