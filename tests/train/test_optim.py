"""build_optimizer: torch's AdamW by hand, clipping, groups, frozen leaves, EMA, and every error."""

import logging
import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from maskjax.errors import UserError
from maskjax.train.ema import ema_params
from maskjax.train.groups import leaf_names
from maskjax.train.lars import lars
from maskjax.train.optim import DEFAULTS, build_optimizer, param_rules

RUN = {"total_steps": 20, "steps_per_epoch": 5, "global_batch": 512}


def tree(seed: int):
    keys = jax.random.split(jax.random.key(seed), 4)
    block = {
        "kernel": jax.random.normal(keys[0], (2, 3, 4)),
        "bias": jax.random.normal(keys[1], (2, 4)),
    }
    head = {
        "kernel": jax.random.normal(keys[2], (4, 2)),
        "bias": jax.random.normal(keys[3], (2,)),
    }
    return {"encoder": {"blocks": {"mlp": block}}, "head": head}


def layers(path: str):
    return (1, 2) if path.startswith("encoder/blocks/") else 3


def config(**changes) -> ConfigDict:
    return ConfigDict({**DEFAULTS, "lr": 1e-2, **changes})


def train(cfg, n=3, params=None, **kwargs):
    """Parameters after n steps, the state, the gradients, the schedule."""
    tx, schedule = build_optimizer(cfg, **{**RUN, **kwargs})
    params = tree(0) if params is None else params
    state = tx.init(params)
    grads = [tree(10 + i) for i in range(n)]
    for g in grads:
        updates, state = jax.jit(tx.update)(g, state, params)
        params = optax.apply_updates(params, updates)
    return params, state, grads, schedule


def torch_adamw(p, grads, rates, *, wd, b1=0.9, b2=0.95, eps=1e-8):
    """torch.optim.AdamW on one tensor, in float64; `rates` holds the rate of each step."""
    p, m, v = np.float64(p), 0.0, 0.0
    for t, (g, lr) in enumerate(zip(grads, rates, strict=True), 1):
        g = np.float64(g)
        p = p * (1 - lr * wd)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        p = p - lr / (1 - b1**t) * m / (np.sqrt(v) / math.sqrt(1 - b2**t) + eps)
    return p


def close(a, b, rtol=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-6), a, b)


def pick(trees, *keys):
    for key in keys:
        trees = [t[key] for t in trees]
    return trees


def test_adamw_with_layer_decay_and_groups_is_torchs():
    cfg = config(b2=0.95, weight_decay=0.3, layer_decay=0.5, warmup_steps=4, min_lr=1e-4)
    groups = [("head/kernel", "lr*0.1")]
    params, _, grads, schedule = train(cfg, 6, layers=layers, method_groups=groups)
    rates = np.array([float(schedule(i)) for i in range(6)])
    start = tree(0)
    for name, wd in (("kernel", 0.3), ("bias", 0.0)):
        keys = ("encoder", "blocks", "mlp", name)
        gs = pick(grads, *keys)
        for i, factor in enumerate((0.25, 0.5)):
            expected = torch_adamw(
                pick([start], *keys)[0][i], [g[i] for g in gs], factor * rates, wd=wd
            )
            close(pick([params], *keys)[0][i], expected)
    for name, wd, factor in (("kernel", 0.3, 0.1), ("bias", 0.0, 1.0)):
        expected = torch_adamw(
            start["head"][name], pick(grads, "head", name), factor * rates, wd=wd
        )
        close(params["head"][name], expected)


def test_schedule_and_scaling_rule():
    cfg = config(lr=0.0, base_lr=1e-3, warmup_epochs=2, min_lr=1e-5)
    _, schedule = build_optimizer(cfg, **RUN)
    assert schedule(0) == 0
    np.testing.assert_allclose(schedule(10), 2e-3, rtol=1e-6)  # 2 epochs of 5 steps; 512 / 256
    np.testing.assert_allclose(schedule(15), (2e-3 + 1e-5) / 2, rtol=1e-5)
    np.testing.assert_allclose(schedule(20), 1e-5, rtol=1e-4)
    _, constant = build_optimizer(config(schedule="constant", warmup_steps=2), **RUN)
    np.testing.assert_allclose(constant(np.array([1, 2, 99])), [5e-3, 1e-2, 1e-2], rtol=1e-6)


def test_simmims_schedules():
    """Rates per 512 images, both ends too; drops by epochs; a cosine that runs since step 0."""
    cfg = {
        "lr": 0.0,
        "base_lr": 1e-4,
        "lr_batch": 256,
        "warmup_lr": 5e-7,
        "min_lr": 1e-5,
        "scale_ends": True,
        "warmup_epochs": 1,
    }
    _, step = build_optimizer(config(**cfg, schedule="step", drop_epochs=(2, 3)), **RUN)
    epochs = np.array([0, 0.2, 1, 1.8, 2, 2.8, 3, 4])
    expected = np.array([1e-6, 1e-6 + 0.2 * 1.99e-4, 2e-4, 2e-4, 2e-5, 2e-5, 2e-6, 2e-6])
    np.testing.assert_allclose(step(5 * epochs), expected, rtol=1e-5)
    _, cosine = build_optimizer(config(**cfg, schedule="cosine_through"), **RUN)
    expected = [1e-6, 2e-5 + 1.8e-4 * 0.5 * (1 + math.cos(math.pi / 4)), 1.1e-4, 2e-5]
    np.testing.assert_allclose(cosine(np.array([0, 5, 10, 20])), expected, rtol=1e-5)


def test_clipping_is_by_the_norm_of_all_trained_gradients():
    cfg = config(name="sgd", momentum=0.0, clip_norm=0.5, schedule="constant")
    params, _, (g,), _ = train(cfg, 1)
    scale = 0.5 / optax.tree.norm(g)
    close(params, jax.tree.map(lambda p, x: p - 1e-2 * scale * x, tree(0), g))
    params, _, (g,), _ = train(cfg, 1, method_groups=[("^encoder/", "frozen")])
    scale = 0.5 / optax.tree.norm(g["head"])
    close(
        params["head"], jax.tree.map(lambda p, x: p - 1e-2 * scale * x, tree(0)["head"], g["head"])
    )


@pytest.mark.parametrize("name", ["adamw", "lars", "sgd"])
def test_frozen_leaves_stay_bit_for_bit_and_have_no_moments(name):
    cfg = config(name=name, weight_decay=0.1, groups=(("^encoder/", "frozen"),), ema=0.9)
    params, state, _, _ = train(cfg, 3)
    jax.tree.map(np.testing.assert_array_equal, params["encoder"], tree(0)["encoder"])
    assert not np.array_equal(params["head"]["kernel"], tree(0)["head"]["kernel"])
    moments = [n for n in leaf_names(state.inner) if "encoder" in n]
    assert not moments, "frozen leaves must cost no optimizer memory"
    assert ema_params(state)["encoder"]["blocks"]["mlp"]["bias"].shape == (2, 4)


def test_config_groups_come_before_the_methods():
    cfg = config(groups=(("head/bias", "lr*0.5"),))
    rules = param_rules(cfg, [("head/", "frozen")])
    assert not rules.is_frozen("head/bias") and rules.is_frozen("head/kernel")


def test_sgd_is_torchs():
    cfg = config(name="sgd", weight_decay=0.1, momentum=0.9, schedule="constant")
    params, _, grads, _ = train(cfg, 3)
    p, mu = np.float64(tree(0)["head"]["kernel"]), 0.0
    for g in pick(grads, "head", "kernel"):
        mu = 0.9 * mu + (g + 0.1 * p)
        p = p - 1e-2 * mu
    close(params["head"]["kernel"], p)


def test_lars_by_name_is_the_transformation():
    cfg = config(name="lars", weight_decay=0.01, schedule="constant")
    params, _, grads, _ = train(cfg, 3)
    tx, expected = lars(1e-2, weight_decay=0.01), tree(0)
    state = tx.init(expected)
    for g in grads:
        updates, state = tx.update(g, state, expected)
        expected = optax.apply_updates(expected, updates)
    close(params, expected)


def test_ema_averages_what_the_run_sees():
    with_average, state, _, _ = train(config(ema=0.5), 1)
    without, _, _, _ = train(config(), 1)
    jax.tree.map(np.testing.assert_array_equal, with_average, without)
    average = jax.tree.map(lambda a, b: (a + b) / 2, tree(0), without)
    close(ema_params(state), average)


@pytest.mark.parametrize("name", ["adamw", "lars", "sgd"])
def test_moments_are_float32_for_half_parameters(name):
    cfg = config(name=name, weight_decay=0.1, clip_norm=1.0)
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), tree(0))
    params, state, _, _ = train(cfg, 2, half)
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}
    floats = [x.dtype for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert floats and set(floats) == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_the_first_moment_in_bfloat16_takes_half_and_trains_the_same(name):
    exact, state, _, _ = train(config(name=name), 4)
    rounded, small, _, _ = train(config(name=name, moment_dtype="bfloat16"), 4)
    sizes = [sum(x.nbytes for x in jax.tree.leaves(s) if x.ndim) for s in (state, small)]
    numbers = sum(x.size for x in jax.tree.leaves(exact))
    assert sizes[0] - sizes[1] == 2 * numbers
    assert {x.dtype for x in jax.tree.leaves(rounded)} == {jnp.dtype("float32")}
    moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), exact, tree(0))
    off = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), exact, rounded)
    # bfloat16 keeps 8 bits, and four steps may add up their errors.
    jax.tree.map(lambda error, way: np.testing.assert_array_less(error, way * 2**-6), off, moved)


def test_state_paths_end_like_the_parameters():
    tx, _ = build_optimizer(config(ema=0.9, groups=(("head/bias", "frozen"),)), **RUN)
    state = jax.eval_shape(tx.init, tree(0))
    names = leaf_names(tree(0))
    for name in leaf_names(state):
        assert name.endswith(("count", *names)), name


def test_any_object_with_attributes_will_do_and_scope_is_passed_on():
    cfg = SimpleNamespace(lr=1e-3, layer_decay=0.5)
    tx, _ = build_optimizer(cfg, layers=layers, scope="encoder", **RUN)
    tx.init(tree(0)["encoder"])


def test_unmatched_regex_is_reported_by_init():
    tx, _ = build_optimizer(config(groups=(("haed", "frozen"),)), **RUN)
    with pytest.raises(UserError, match=r"config\.optim\.groups\[0\].*haed"):
        jax.eval_shape(tx.init, tree(0))


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"name": "adam"}, ["optim.name", "adamw"]),
        ({"schedule": "steps"}, ["optim.schedule", "cosine"]),
        ({"schedule": "step"}, ["optim.drop_epochs", "one epoch or more"]),
        ({"schedule": "step", "drop_epochs": (-1,)}, ["optim.drop_epochs"]),
        ({"warmup_lr": 0.1}, ["optim.warmup_lr", "above"]),
        ({"lr_batch": 0}, ["optim.lr_batch"]),
        ({"lr": 0.0}, ["optim.lr", "optim.base_lr", "exactly one"]),
        ({"base_lr": 1e-3}, ["optim.lr", "optim.base_lr", "exactly one"]),
        ({"lr": "fast"}, ["optim.lr", "number"]),
        ({"lr": float("nan")}, ["optim.lr"]),
        ({"min_lr": 0.1}, ["optim.min_lr", "above"]),
        ({"warmup_steps": 3, "warmup_epochs": 1}, ["optim.warmup_steps", "optim.warmup_epochs"]),
        ({"warmup_steps": -1}, ["optim.warmup_steps"]),
        ({"b1": 1.0}, ["optim.b1", "below 1"]),
        ({"b2": -0.1}, ["optim.b2"]),
        ({"eps": 0}, ["optim.eps"]),
        ({"momentum": 1}, ["optim.momentum"]),
        ({"moment_dtype": "float16"}, ["optim.moment_dtype", "bfloat16"]),
        ({"moment_dtype": "bfloat16", "name": "lars"}, ["optim.moment_dtype", "not lars"]),
        ({"trust_coefficient": 0}, ["optim.trust_coefficient"]),
        ({"weight_decay": -0.05}, ["optim.weight_decay"]),
        ({"clip_norm": -1}, ["optim.clip_norm"]),
        ({"ema": 1.0}, ["optim.ema"]),
        ({"layer_decay": 1.5}, ["optim.layer_decay", "at most 1"]),
        ({"no_decay": "("}, ["optim.no_decay", "regular expression"]),
        ({"no_decay": 1}, ["optim.no_decay"]),
        ({"groups": (("head", "slow"),)}, ["optim.groups[0]", "slow"]),
    ],
)
def test_errors_name_the_key(changes, names):
    cfg = SimpleNamespace(**{**DEFAULTS, "lr": 1e-2, **changes})
    with pytest.raises(UserError) as error:
        build_optimizer(cfg, layers=layers, **RUN)
    for name in names:
        assert name in str(error.value)


def test_a_warmup_longer_than_the_run_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        build_optimizer(config(warmup_epochs=40), **RUN)
    assert "never gets past it" in caplog.text
