"""multimae.npz: which tokens of all modalities are encoded."""

import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maskjax.masking import modalities

INPUTS = ("config", "param/*", "input/*", "noise/*")
PARTIAL = "masks; the rest with the method"


def outputs(given: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The mask keys."""
    cfg = json.loads(str(given["config"]))
    domains = cfg["domains"]
    counts = tuple(given[f"noise/{domain}"].shape[1] for domain in domains)
    keep = np.concatenate([given[f"noise/{domain}"] for domain in domains], 1)
    shares, shuffle = given["noise/dirichlet_sample"], given["noise/shuffle"]
    noise = modalities.ModalityNoise(*(jnp.asarray(x) for x in (shares, keep, shuffle)))
    num_visible = cfg["num_encoded_tokens"]
    draw = lambda one: modalities.dirichlet(one, counts, num_visible=num_visible)  # noqa: E731
    split = jax.jit(jax.vmap(draw))(noise)
    hidden = modalities.by_modality(split.hidden().astype(jnp.int32), counts)
    masks = {f"mask/{domain}": part for domain, part in zip(domains, hidden, strict=True)}
    if cfg["extra_norm_pix_loss"]:
        masks["mask/norm_rgb"] = masks["mask/rgb"]
    return masks | {"mask/ids_keep": split.visible_ids, "mask/ids_restore": split.inverse()}
