"""TrAct: the invariants of its gradient, on devices too, and the switch in the config."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax import build as building
from maskjax.config import load_config
from maskjax.errors import UserError
from maskjax.losses import Term
from maskjax.masking import Draws
from maskjax.method import Method, Phase, build_method, with_tract
from maskjax.nn import tract
from maskjax.nn.dense import Dense
from maskjax.nn.masked_conv import MaskedConv


def rows(num, width, seed=0, scale=1.0):
    return jnp.asarray(np.random.default_rng(seed).normal(0, scale, (num, width)), jnp.float32)


def gradients(layer, params, x, strength=None):
    """Of sum(sin(layer)): (value, by the parameters, by x)."""

    def objective(params, x):
        with tract.strength(strength) if strength else contextlib.nullcontext():
            y = layer.apply({"params": params}, x)
        y = y[0] if isinstance(y, tuple) else y
        return jnp.sin(y).sum() / len(x)

    value, (by_params, by_x) = jax.value_and_grad(objective, argnums=(0, 1))(params, x)
    return value, by_params, by_x


def dense(width, features=5, seed=1):
    layer = Dense(features, first=True)
    return layer, layer.init(jax.random.key(seed), jnp.zeros((1, width)))["params"]


LAYERS = {
    "dense": (Dense(5, first=True), rows(40, 6)),
    "tokens": (Dense(5, first=True), rows(40, 6).reshape(8, 5, 6)),
    "conv": (MaskedConv(5, 3, 2, 1, first=True), rows(3 * 49, 2).reshape(3, 7, 7, 2)),
    "wide": (Dense(5, first=True), rows(4, 9)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_1_value_bias_and_input_gradient_are_those_of_the_plain_layer(name):
    layer, x = LAYERS[name]
    params = layer.init(jax.random.key(0), x)["params"]
    plain, changed = gradients(layer, params, x), gradients(layer, params, x, 0.1)
    np.testing.assert_array_equal(plain[0], changed[0])
    np.testing.assert_array_equal(plain[1]["bias"], changed[1]["bias"])
    np.testing.assert_array_equal(plain[2], changed[2])
    assert np.abs(plain[1]["kernel"] - changed[1]["kernel"]).max() > 1e-3


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 30), st.integers(1, 12), st.sampled_from([0.0125, 0.1, 0.8]), st.integers(0, 99)
)
def test_2_3_it_solves_the_ridge_equations_in_both_forms(num, width, strength, seed):
    """G (a^T a / b + lambda I) = a^T g, whichever of the two forms was taken."""
    a, g = rows(num, width, seed), rows(num, 4, seed + 100)
    gradient = a.T @ g
    found = np.asarray(tract.preconditioned(gradient, a, g, strength), np.float64)
    moments = np.asarray(a, np.float64).T @ np.asarray(a, np.float64) / num
    back = (moments + strength * np.eye(width)) @ found
    scale = max(np.abs(gradient).max(), 1e-3)
    np.testing.assert_allclose(back, gradient, atol=2e-5 * scale * (1 + 1 / strength) / 10)


def test_4_large_lambda_and_whitened_inputs():
    a, g = rows(64, 6), rows(64, 3, 1)
    large = tract.preconditioned(a.T @ g, a, g, 1e6)
    np.testing.assert_allclose(1e6 * large, a.T @ g, rtol=1e-4, atol=1e-4)
    white = np.linalg.qr(np.asarray(a))[0] * 8  # a^T a / 64 = I
    found = tract.preconditioned(white.T @ g, jnp.asarray(white), g, 0.25)
    np.testing.assert_allclose(found, white.T @ np.asarray(g) / 1.25, rtol=1e-4, atol=1e-4)


def test_5_large_inputs_do_not_make_large_steps_of_the_outputs():
    """A step moves z by eta b g, whatever the scale of the inputs; plain SGD's grows as c^2."""
    g, moves, plain = rows(64, 3, 1), [], []
    for scale in (10.0, 100.0):
        a = rows(64, 6, scale=scale)
        moves.append(a @ tract.preconditioned(a.T @ g, a, g, 0.1))
        plain.append(float(jnp.abs(a @ (a.T @ g)).max()))
    q = np.linalg.qr(np.asarray(rows(64, 6)))[0]
    np.testing.assert_allclose(moves[1], 64 * q @ (q.T @ np.asarray(g)), rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(moves[0], moves[1], rtol=2e-2, atol=2e-2)
    assert plain[1] > 50 * plain[0]


def test_6_a_batch_repeated_gives_the_same():
    layer, params = dense(6)
    x = rows(10, 6)
    once = gradients(layer, params, x, 0.1)[1]["kernel"]
    again = gradients(layer, params, jnp.tile(x, (3, 1)), 0.1)[1]["kernel"]
    np.testing.assert_allclose(once, again, rtol=1e-4, atol=1e-6)


def test_7_no_gradient_no_step():
    a = rows(20, 6)
    assert not tract.preconditioned(jnp.zeros((6, 3)), a, jnp.zeros((20, 3)), 0.1).any()


def test_other_layers_are_left_alone():
    layer, params = Dense(5), dense(6)[1]
    x = rows(10, 6)
    plain, within = gradients(layer, params, x), gradients(layer, params, x, 0.1)
    np.testing.assert_array_equal(plain[1]["kernel"], within[1]["kernel"])


def mae_gradient(method, params, batch, devices):
    def objective(params, batch):
        draws = Draws.keyed(jax.random.key(0), batch["position"])
        terms, _ = method.phases[0].fn(params, {}, batch, draws, 0, method.static(0))
        return sum(term.sum / term.weight for term in terms.values())

    mesh = jax.make_mesh((devices,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.NamedSharding(mesh, jax.P("data"))
    with jax.set_mesh(mesh):
        return jax.jit(jax.grad(objective))(params, jax.device_put(batch, rows))


def test_statistics_are_those_of_the_batch_on_all_devices():
    batch = tiny.batch(16)
    plain = build_method("mim.mae", tiny.MODEL, batch)
    method, params = with_tract(plain, 0.1), tiny.params(plain, batch)
    one, many = (mae_gradient(method, params, batch, devices) for devices in (1, 8))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-5), one, many)
    ordinary = mae_gradient(plain, params, batch, 8)
    same = jax.tree.map(lambda a, b: bool(jnp.allclose(a, b, atol=1e-5)), many, ordinary)
    changed = [str(p) for p, equal in jax.tree_util.tree_leaves_with_path(same) if not equal]
    assert changed == [
        "(DictKey(key='encoder'), DictKey(key='patch_embed'), DictKey(key='kernel'))"
    ]


def test_one_line_of_the_config():
    config, _ = load_config("mim/mae:tiny", ["--config.optim.tract=0.1"])
    parts = building.experiment(config, 1400)
    assert parts.method.coupled
    parts.check_step()
    config, _ = load_config("mim/mae:tiny", ["--config.optim.tract=0.1"])
    config.train.accumulate = 2
    with pytest.raises(UserError, match="couples the examples"):
        building.experiment(config, 1400).check_step()


def test_a_method_without_such_a_layer_says_so():
    loss = lambda params, *_: ({"x": Term(params["w"].sum(), 1)}, {})  # noqa: E731
    method = Method(lambda key, batch: ({"w": jnp.ones(2)}, {}), (Phase(loss),), {})
    with pytest.raises(UserError, match=r"config\.optim\.tract = 0\.1: .*no first layer"):
        with_tract(method, 0.1).phases[0].fn({"w": jnp.ones(2)}, {}, {}, None, 0, None)
    with pytest.raises(ValueError, match="positive"), tract.strength(0.0):
        pass
