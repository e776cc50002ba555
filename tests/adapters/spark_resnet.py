"""spark_resnet.npz: the sparse encoder only (feature maps and running statistics)."""

import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adapters import _pretraining as pretraining
from maskjax.interop.convert import from_torch, to_torch
from maskjax.interop.layouts import resnet
from maskjax.masking.pyramid import pyramid
from maskjax.nn.masked_resnet import MaskedResNet

INPUTS = ("config", "param/*", "input/*", "mask/active")
PARTIAL = "the sparse encoder; densify, decoder, loss and gradients with the method"
PREFIX = "sparse_encoder.sp_cnn."
REST = ("densify_*", "mask_tokens.*", "dense_decoder.*")


def outputs(given: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Feature maps in evaluation mode; running statistics after one step in training mode."""
    cfg = json.loads(str(given["config"]))
    images = pretraining.channels_last(given["input/image"])
    active = jnp.asarray(given["mask/active"][:, 0] > 0)
    valid = pyramid(active, images.shape[1:3], (1,))[1]
    model = MaskedResNet(cfg["planes"], cfg["depths"], 0, cfg["stem_width"], style="sparse")
    like = jax.eval_shape(model.init, jax.random.key(0), images)
    rules = resnet.rules(cfg["depths"], head="", prefix=PREFIX)
    arrays, unused = pretraining.params_of(given), (*resnet.UNUSED, *REST)
    variables = from_torch(arrays, rules, like, allow_unused=unused)
    _, seen = jax.jit(model.apply)(variables, images, valid)
    train = jax.jit(lambda v: model.apply(v, images, valid, train=True, mutable=["batch_stats"])[1])
    after = to_torch({**variables, **train(variables)}, rules)
    return {
        **{f"output/encoder_feat_{i}": _map(seen, i) for i in range(len(cfg["depths"]))},
        **{f"output/after_train_step/{k}": v for k, v in after.items() if "running" in k},
    }


def _map(seen: Mapping[str, Any], stage: int) -> jax.Array:
    return jnp.moveaxis(seen[f"stage{stage + 1}"][0], -1, 1)
