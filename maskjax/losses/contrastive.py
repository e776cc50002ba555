"""Contrastive losses between the rows of one set of features."""

import chex
import jax
import jax.numpy as jnp
from jax import Array

EPS = 1e-8


def supervised_contrastive(features: Array, labels: Array, temperature: float) -> Array:
    """Rows of equal label should be alike: one value per row.

    -mean over the other rows p of the same label of log(exp(c_ip / t) / sum over a != i of
    exp(c_ia / t)), c the cosine similarity (Khosla et al. 2020, eq. 2; over the tokens of a mixed
    sequence it is the homologous contrastive loss of MixedAE, Chen et al. 2023).

    Args:
        features: float[..., N, D].
        labels: int[..., N].
        temperature: t > 0.

    Returns:
        float32[..., N]; 0 for a row that is alone with its label.
    """
    chex.assert_equal_shape_prefix((features, labels), labels.ndim)
    features = features.astype(jnp.float32)
    norm = jnp.sqrt(jnp.square(features).sum(-1, keepdims=True) + EPS**2)
    features = features / norm
    logits = jnp.einsum("...id,...jd->...ij", features, features) / temperature
    self_pair = jnp.eye(labels.shape[-1], dtype=bool)
    others = jax.nn.logsumexp(jnp.where(self_pair, -jnp.inf, logits), axis=-1, keepdims=True)
    positive = (labels[..., :, None] == labels[..., None, :]) & ~self_pair
    count = positive.sum(-1)
    return -jnp.where(positive, logits - others, 0).sum(-1) / jnp.maximum(count, 1)
