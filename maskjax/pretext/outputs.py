"""What predict functions return, from tokens with or without a cls token in front."""

import jax.numpy as jnp
from jax import Array

from maskjax import masking
from maskjax.masking import TokenSplit


def features(latent: Array) -> dict[str, Array]:
    """Latent [B, 1 + N, D] -> what `predict["encode"]` returns, float32.

    "cls" [B, D], "mean" [B, D] of the patch tokens, "tokens" [B, N, D] (raster, no cls).
    """
    latent = latent.astype(jnp.float32)
    return {"cls": latent[:, 0], "mean": latent[:, 1:].mean(1), "tokens": latent[:, 1:]}


def patch_features(tokens: Array) -> dict[str, Array]:
    """Tokens [B, N, D] without a cls token -> as `features`; the mean stands in for cls."""
    tokens = tokens.astype(jnp.float32)
    mean = tokens.mean(1)
    return {"cls": mean, "mean": mean, "tokens": tokens}


def raster(tokens: Array, split: TokenSplit) -> Array:
    """[B, 1 + N, D] in the order of `split`: cls stays in front, the others go to raster order."""
    restored = masking.tokens.restore(tokens[:, 1:], split)
    return jnp.concatenate([tokens[:, :1], restored], axis=1)
