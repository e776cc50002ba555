"""mixedae.npz (formulas of the sheet): owners, mixing, attention, both losses."""

import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maskjax import losses
from maskjax.masking import attend, mixing
from maskjax.nn.attention import attention_weights

INPUTS = (
    "config",
    "mix/noise",
    "mix/embeddings",
    "mix/segment",
    "attn/[qkvK]",
    "contrast/z",
    "contrast/assignment",
    "contrast/tau",
    "unmix/tokens",
    "unmix/mask_token",
    "rec/pred",
    "rec/target",
)


def outputs(given: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Every formula by itself, on the arrays that the file gives it."""
    num_images = json.loads(str(given["config"]))["G"]
    arrays = {key: jnp.asarray(value) for key, value in given.items() if key != "config"}
    noise, tokens = arrays["mix/noise"], arrays["unmix/tokens"]
    owner = mixing.groups_mix(noise, noise.shape[1], num_images=num_images)
    embedded = arrays["mix/embeddings"] + arrays["mix/segment"][:, None]
    apart = mixing.unmix(tokens, owner, arrays["unmix/mask_token"], num_images=num_images)
    hidden = mixing.hidden_of(owner, num_images).reshape(-1, noise.shape[1])
    errors = losses.squared_error(arrays["rec/pred"], arrays["rec/target"])
    alike = losses.supervised_contrastive(
        arrays["contrast/z"], arrays["contrast/assignment"], arrays["contrast/tau"]
    )
    return {
        "mix/assignment": owner,
        "mix/mixed": mixing.mix(embedded, owner),
        "unmix/out": apart.reshape(-1, *apart.shape[2:]),
        "attn/out": _attention(*(arrays[f"attn/{name}"] for name in "qkv"), int(arrays["attn/K"])),
        "contrast/loss": alike.mean(),
        "rec/loss": losses.total({"rec": losses.Term((errors * hidden).sum(), hidden.sum())}),
    }


@jax.jit
def _scores(query: jax.Array, key: jax.Array) -> jax.Array:
    return jnp.einsum("bhqd,bhkd->bhqk", query, key)


def _attention(query: jax.Array, key: jax.Array, value: jax.Array, num_keep: int) -> jax.Array:
    allow = attend.keep_largest(_scores(query, key), num_keep, num_prefix=1)
    return attention_weights(query, key, allow) @ value
