"""Peaks of known chips, and the share of them that a run uses (MFU).

The FLOPs of a step are the method's own (`Method.step_flops`, by the formulas of `nn.flops`).
"""

import re

# Dense bfloat16 peaks in operations per second and JAX device, from the makers' data sheets; first
# match wins. A TPU v2 or v3 chip shows as two devices.
_BFLOAT16 = (
    (r"\btpu v6", 918e12),
    (r"\btpu v5 ?(lite|e)", 197e12),
    (r"\btpu v5", 459e12),
    (r"\btpu v4 ?(lite|i)", 138e12),
    (r"\btpu v4", 275e12),
    (r"\btpu v3", 61.5e12),
    (r"\btpu v2", 22.5e12),
    (r"\bh100 pcie", 756e12),
    (r"\bh100 nvl", 835e12),
    (r"\b(h100|h200|gh200)\b", 989e12),
    (r"\ba100\b", 312e12),
    (r"\bl40s\b", 362e12),
    (r"\bl4\b", 121e12),
)
# float32 arrays at JAX's default matmul precision: TF32 at half the bfloat16 rate on NVIDIA chips
# (Ampere and later), one bfloat16 pass on TPU.
_FLOAT32_SHARE = {"tpu": 1.0, "gpu": 0.5}


def peak_flops(device_kind: str, dtype: str = "bfloat16") -> float | None:
    """Peak matmul rate of a device, operations per second; None if it is not known (any CPU).

    Args:
        device_kind: `jax.Device.device_kind`, such as "TPU v5 lite" or "NVIDIA H100 80GB HBM3".
        dtype: of the operands, "bfloat16" or "float32".
    """
    name = device_kind.lower()
    peak = next((rate for pattern, rate in _BFLOAT16 if re.search(pattern, name)), None)
    if peak is None or dtype not in ("bfloat16", "float32"):
        return None
    share = _FLOAT32_SHARE["tpu" if "tpu" in name else "gpu"]
    return peak if dtype == "bfloat16" else peak * share


def mfu(
    flops_per_image: float,
    images_per_second: float,
    num_devices: int,
    device_kind: str,
    dtype: str = "bfloat16",
) -> float | None:
    """Model FLOPs utilisation in 0..1: needed rate over peak rate; None if the peak is not known.

    PaLM, Chowdhery et al. 2022, appendix B. Recomputation does not count as work.
    """
    peak = peak_flops(device_kind, dtype)
    if peak is None:
        return None
    return flops_per_image * images_per_second / (num_devices * peak)
