"""FLOPs of a training step by formula, peaks of known chips, and the share that is used (MFU).

Counted are matrix multiplications only, two operations per multiply-add, and 3 x forward for a
training step (the backward pass has two products for each one of the forward pass). Norms,
softmax, activations, the optimizer and the loss are left out: they are 1 to 2 % of a ViT-L step.
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


def linear_flops(tokens: int, inputs: int, outputs: int) -> int:
    """Forward FLOPs of a dense layer over `tokens` tokens."""
    return 2 * tokens * inputs * outputs


def vit_flops(tokens: int, dim: int, depth: int, mlp_hidden: int) -> int:
    """Forward FLOPs of `depth` transformer blocks for one image.

    Args:
        tokens: sequence length, class token included.
        dim: width; the number of heads does not matter.
        depth: blocks.
        mlp_hidden: width of the hidden layer of the MLP.
    """
    projections = linear_flops(tokens, dim, 4 * dim)  # query, key, value, out
    attention = 2 * (2 * tokens * tokens * dim)  # scores, weighted values
    mlp = 2 * linear_flops(tokens, dim, mlp_hidden)
    return depth * (projections + attention + mlp)


def mae_step_flops(
    *,
    num_tokens: int,
    num_visible: int,
    patch_dim: int,
    dim: int,
    depth: int,
    mlp_hidden: int,
    decoder_dim: int,
    decoder_depth: int,
    decoder_mlp_hidden: int,
) -> int:
    """FLOPs per image of one MAE training step, forward and backward.

    The order of work is that of this package: patches are gathered before the projection, and the
    prediction head runs on hidden patches only. The class token goes through both networks.

    Args:
        num_tokens: N, patches of an image.
        num_visible: K, how many of them the encoder sees.
        patch_dim: P, numbers in a patch.
        dim, depth, mlp_hidden: the encoder.
        decoder_dim, decoder_depth, decoder_mlp_hidden: the decoder.
    """
    encoder = linear_flops(num_visible, patch_dim, dim)
    encoder += vit_flops(num_visible + 1, dim, depth, mlp_hidden)
    decoder = linear_flops(num_visible + 1, dim, decoder_dim)
    decoder += vit_flops(num_tokens + 1, decoder_dim, decoder_depth, decoder_mlp_hidden)
    decoder += linear_flops(num_tokens - num_visible, decoder_dim, patch_dim)
    return 3 * (encoder + decoder)


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
