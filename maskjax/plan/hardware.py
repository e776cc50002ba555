"""What is known of TPU slices and GPU nodes by their name alone, without any compiler for them."""

import dataclasses
import math
import re

from maskjax.errors import UserError

GIB = 2**30

_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16")


@dataclasses.dataclass(frozen=True)
class _Generation:
    """A kind of TPU chip, as jax names it.

    Attributes:
        kind: `jax.Device.device_kind`.
        gib: usable memory of a JAX device, as the TPU compiler itself states it when a program
            does not fit (libtpu 0.0.52).
        slices: that can be rented, or parts of them.
        cores: JAX devices per chip.
    """

    kind: str
    gib: float
    slices: tuple[str, ...]
    cores: int = 1


_TPUS = {
    "v2": _Generation("TPU v2", 7.48, ("2x2", "4x4", "8x8", "8x16", "16x16"), 2),
    "v3": _Generation("TPU v3", 15.48, ("2x2", "4x4", "8x8", "8x16", "16x16", "16x32"), 2),
    "v4": _Generation("TPU v4", 30.75, _CUBES),
    "v5e": _Generation("TPU v5 lite", 15.75, _FLAT),
    "v5p": _Generation("TPU v5", 95.73, _CUBES),
    "v6e": _Generation("TPU v6 lite", 31.24, _FLAT),
    "tpu7x": _Generation("TPU7x", 94.74, _CUBES, 2),
}
# NVIDIA H100 SXM5 80 GB.
_H100_BYTES = 84978434048
_GPUS = {"h100": ("NVIDIA H100 80GB HBM3", _H100_BYTES)}
TPU_NAME = re.compile(rf"({'|'.join(_TPUS)}):\d+x\d+(x\d+)?")
GPU_NAME = re.compile(rf"({'|'.join(_GPUS)}):(\d+)x(\d+)")


@dataclasses.dataclass(frozen=True)
class Hardware:
    """Devices of one kind.

    Attributes:
        name: as it was asked for, such as "v5e:16x16".
        num_devices: JAX devices: one per chip (v2, v3, tpu7x: per core).
        device_kind: as `jax.Device.device_kind`.
        memory: usable bytes of one device.
        platform: "tpu" or "gpu".
    """

    name: str
    num_devices: int
    device_kind: str
    memory: int
    platform: str


def hardware(name: str) -> Hardware:
    """The hardware of a name: `v5e:16x16` (a TPU slice), `h100:4x8` (4 nodes of 8 GPUs).

    Raises:
        UserError: for a name of another form, or sizes of 0.
    """
    sizes = [int(size) for size in name.partition(":")[2].split("x") if size.isdigit()]
    if TPU_NAME.fullmatch(name) and min(sizes) > 0:
        chip = _TPUS[name.partition(":")[0]]
        count = math.prod(sizes) * chip.cores
        return Hardware(name, count, chip.kind, int(chip.gib * GIB), "tpu")
    if found := GPU_NAME.fullmatch(name):
        if min(sizes) < 1:
            raise UserError(f"--topology={name}: needs at least 1x1")
        kind, memory = _GPUS[found[1]]
        return Hardware(name, math.prod(sizes), kind, memory, "gpu")
    raise UserError(
        f"--topology={name}: is neither a TPU slice such as v5e:16x16 or v4:4x4x4 (generations"
        f" {', '.join(_TPUS)}) nor GPU nodes such as h100:4x8 (nodes x GPUs in each)."
        f"\n{valid_names()}"
    )


def valid_names() -> str:
    """Slices of each generation and the form of GPU nodes, a line each."""
    lines = [f"  {name}:{{{','.join(chip.slices)}}}" for name, chip in _TPUS.items()]
    return "\n".join(["valid:", *lines, *(f"  {gpu}:NODESxGPUS" for gpu in _GPUS)])


def offered(name: str) -> bool:
    """Whether a TPU slice is one that can be rented; GPU nodes always are."""
    generation, _, size = name.partition(":")
    return generation not in _TPUS or size in _TPUS[generation].slices
