"""LARS: the golden steps, and that a stacked leaf behaves like its slices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from maskjax.train.lars import lars, scale_by_lars, scale_by_slice_trust_ratio


def run(tx, params, grads):
    state = tx.init(params)
    history = []
    for g in grads:
        updates, state = tx.update(g, state, params)
        params = optax.apply_updates(params, updates)
        history.append(params)
    return history


def test_golden_steps(golden):
    config, a = golden("mae")
    c = config["lars"]
    tx = lars(
        c["lr"],
        weight_decay=c["weight_decay"],
        momentum=c["momentum"],
        trust_coefficient=c["trust_coefficient"],
    )
    grads = [{"w": a[f"lars/gw{i}"], "b": a[f"lars/gb{i}"]} for i in (0, 1)]
    params = {"w": jnp.array(a["lars/w0"]), "b": jnp.array(a["lars/b0"])}
    for i, p in enumerate(run(tx, params, grads), 1):
        np.testing.assert_allclose(p["w"], a[f"lars/w{i}"], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(p["b"], a[f"lars/b{i}"], rtol=1e-6, atol=1e-6)


def random_tree(seed: int, depth: int):
    keys = jax.random.split(jax.random.key(seed), 4)
    return {
        "kernel": jax.random.normal(keys[0], (depth, 4, 2, 3)),
        "bias": jax.random.normal(keys[1], (depth, 2, 3)),
        "scale": jax.random.normal(keys[2], (depth, 4)),
        "table": jax.random.normal(keys[3], (depth, 4)),
    }


def test_a_stacked_leaf_is_its_slices():
    depth = 3
    tx = lars(0.1, weight_decay=0.05)
    params, grads = random_tree(0, depth), [random_tree(1, depth), random_tree(2, depth)]
    stacked = run(tx, {"blocks": params}, [{"blocks": g} for g in grads])[-1]["blocks"]
    for i in range(depth):
        one = jax.tree.map(lambda x: x[i], params)  # noqa: B023
        alone = run(tx, one, [jax.tree.map(lambda x: x[i], g) for g in grads])[-1]  # noqa: B023
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a[i], b, rtol=1e-6),  # noqa: B023
            stacked,
            alone,
        )


def test_biases_and_vectors_are_plain_momentum():
    tx = scale_by_lars(weight_decay=0.5, momentum=0.9)
    params = {"blocks": random_tree(0, 2)}
    grads = {"blocks": random_tree(1, 2)}
    updates, _ = tx.update(grads, tx.init(params), params)
    for name in ("bias", "scale", "table"):  # query bias: 3 axes, yet a vector in each block
        np.testing.assert_array_equal(updates["blocks"][name], grads["blocks"][name])
    assert not np.allclose(updates["blocks"]["kernel"], grads["blocks"]["kernel"])


def test_decay_mask_exempts_from_decay_but_not_from_the_ratio():
    params = {"pos_embed": jnp.ones((2, 3)), "kernel": jnp.ones((2, 3))}
    grads = jax.tree.map(lambda p: 2 * p, params)
    mask = lambda tree: {"pos_embed": False, "kernel": True}  # noqa: E731
    tx = scale_by_lars(weight_decay=1.0, trust_coefficient=0.1, decay_mask=mask)
    updates, _ = tx.update(grads, tx.init(params), params)
    np.testing.assert_allclose(updates["pos_embed"], 0.1 * 0.5 * 2, rtol=1e-6)
    np.testing.assert_allclose(updates["kernel"], 0.1 * (1 / 3) * 3, rtol=1e-6)


@pytest.mark.parametrize("zero", ["param", "grad"])
def test_a_zero_norm_means_factor_one_per_slice(zero):
    tx = scale_by_slice_trust_ratio(0.001)
    p, g = jnp.ones((2, 3, 3)), jnp.full((2, 3, 3), 2.0)
    p, g = (p.at[0].set(0), g) if zero == "param" else (p, g.at[0].set(0))
    out, _ = tx.update({"blocks": {"kernel": g}}, optax.EmptyState(), {"blocks": {"kernel": p}})
    out = out["blocks"]["kernel"]
    np.testing.assert_array_equal(out[0], g[0])
    np.testing.assert_allclose(out[1], 0.001 * 0.5 * 2.0, rtol=1e-6)
    assert np.isfinite(out).all()
