"""mto.npz (formulas of the sheet, a reconstruction): entropies, the losses, recalibration."""

import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maskjax.losses import mask_tokens
from maskjax.masking import attention_ops, tokens

INPUTS = ("config", "input/*", "mask/*")


def outputs(given: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Every formula on the tokens and scores of one layer."""
    cfg = json.loads(str(given["config"]))
    x, scores = jnp.asarray(given["input/x"]), jnp.asarray(given["input/scores"])
    hidden = jnp.asarray(given["mask/mask"]) > 0

    @jax.jit
    def run(x, scores, visible):
        hidden = ~visible
        attention = attention_ops.weights(scores)
        bias = mask_tokens.recalibration(visible, hidden, cfg["b"])[:, None]
        cosine = mask_tokens.affinity(x)
        return {
            "H": mask_tokens.evenness(cosine, visible, cfg["t"]),
            "Het": mask_tokens.heterogeneity(x, visible, cfg["t"]),
            "L_e": mask_tokens.singularity_loss(x, visible, cfg["t"]),
            "L_r": mask_tokens.restoration_loss(attention, visible),
            "L_spa_early": mask_tokens.sparsity_loss(attention, hidden, True),
            "L_spa_late": mask_tokens.sparsity_loss(attention, hidden, False),
            "attention": attention,
            "attention_recalibrated": attention_ops.weights(scores, bias=bias),
        }

    seen = run(x, scores, ~hidden)
    order = jnp.argsort(~hidden, axis=-1, stable=True)[:, : int(hidden[0].sum())]
    results = {"H": tokens.gather(seen["H"][..., None], order)[..., 0]}
    for name in ("Het", "L_e"):
        results[name] = _mean(seen[name], hidden)
    results["L_r"] = _mean(seen["L_r"], hidden[:, None])
    for name in ("L_spa_early", "L_spa_late"):
        results[name] = _mean(seen[name], ~hidden[:, None])
    results |= {name: seen[name] for name in ("attention", "attention_recalibrated")}
    return {f"output/{name}": value for name, value in results.items()}


def _mean(values: jax.Array, where: jax.Array) -> jax.Array:
    return jnp.mean(values, where=jnp.broadcast_to(where, values.shape))
