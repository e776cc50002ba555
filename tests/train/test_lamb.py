"""LAMB: timm's step by hand, what is adapted, stacked leaves, the schedule of the decay."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from maskjax.train.lamb import scale_by_lamb
from maskjax.train.optim import build_optimizer

KEYS = ("kernel", "bias")
PARAMS = {
    "kernel": jnp.asarray([[1.0, -2.0], [0.5, 3.0]]),
    "bias": jnp.asarray([0.3, -0.1]),
}
GRADS = [jax.tree.map(lambda p, k=k: jnp.sin(3 * p + k), PARAMS) for k in range(3)]
LR = 0.1


def by_hand(decay, *, always=False, corrected=True, b1=0.9, b2=0.95, eps=1e-6):
    """timm's Lamb, in double precision; decay(step)."""
    p = {key: np.asarray(PARAMS[key], np.float64) for key in KEYS}
    m, v = ({key: np.zeros_like(p[key]) for key in KEYS} for _ in range(2))
    for step, grads in enumerate(GRADS):
        for key in KEYS:
            g = np.asarray(grads[key], np.float64)
            m[key] = b1 * m[key] + (1 - b1) * g
            v[key] = b2 * v[key] + (1 - b2) * g * g
            c1, c2 = (1 - b ** (step + 1) if corrected else 1.0 for b in (b1, b2))
            update = m[key] / c1 / (np.sqrt(v[key] / c2) + eps)
            wd = decay(step) if key == "kernel" else 0.0
            update = update + wd * p[key]
            if wd or always:
                update *= np.linalg.norm(p[key]) / np.linalg.norm(update)
            p[key] = p[key] - LR * update
    return p


def run(**options):
    cfg = {"name": "lamb", "lr": LR, "schedule": "constant", "b2": 0.95, "eps": 1e-6, **options}
    tx, _ = build_optimizer(
        SimpleNamespace(**cfg), total_steps=len(GRADS), steps_per_epoch=1, global_batch=1
    )
    params, state = PARAMS, tx.init(PARAMS)
    for grads in GRADS:
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params


CASES = {
    "decayed": ({"weight_decay": 0.2}, {"decay": lambda step: 0.2}),
    "no decay: Adam": ({}, {"decay": lambda step: 0.0}),
    "fine-tuning": (
        {"weight_decay": 0.2, "always_adapt": True, "bias_correction": False},
        {"decay": lambda step: 0.2, "always": True, "corrected": False},
    ),
    "cosine of the decay": (
        {"weight_decay": 0.1, "weight_decay_end": 0.5},
        {"decay": lambda step: 0.5 - 0.4 * (0.5 + 0.5 * np.cos(np.pi * step / 2))},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_steps(name):
    options, expected = CASES[name]
    found, wanted = run(**options), by_hand(**expected)
    for key in KEYS:
        np.testing.assert_allclose(found[key], wanted[key], rtol=2e-5, atol=1e-6)


def test_a_stacked_leaf_is_its_slices():
    decays = lambda tree: jax.tree.map(lambda leaf: True, tree)  # noqa: E731
    tx = scale_by_lamb(weight_decay=0.1, decay_mask=decays)
    rng = np.random.default_rng(0)
    kernel, grad = (jnp.asarray(rng.normal(size=(2, 3, 4)), jnp.float32) for _ in range(2))
    one = lambda p, g: tx.update(g, tx.init(p), p)[0]  # noqa: E731
    whole = one({"blocks": {"kernel": kernel}}, {"blocks": {"kernel": grad}})["blocks"]["kernel"]
    for i in range(2):
        alone = one({"kernel": kernel[i]}, {"kernel": grad[i]})["kernel"]
        np.testing.assert_allclose(whole[i], alone, rtol=1e-5)
        norms = [np.linalg.norm(x) for x in (whole[i], kernel[i])]
        assert norms[0] == pytest.approx(norms[1], rel=1e-5)
