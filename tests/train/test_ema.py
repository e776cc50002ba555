"""EMA of the parameters in the optimizer state."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from maskjax.train.ema import EmaState, ema_params, with_ema
from maskjax.train.groups import leaf_names

PARAMS = {"encoder": {"norm": {"scale": jnp.ones(3)}, "cls_token": jnp.arange(4.0)}}


def steps(tx, n, params=PARAMS):
    state = tx.init(params)
    seen = [params]
    for i in range(n):
        grads = jax.tree.map(lambda p: p * 0.1 + i, params)  # noqa: B023
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        seen.append(params)
    return seen, state


def check(average, seen, decays):
    expected = seen[0]
    for params, d in zip(seen[1:], decays, strict=True):
        expected = jax.tree.map(lambda e, p: d * e + (1 - d) * p, expected, params)  # noqa: B023
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), average, expected)


def test_average_of_the_parameters_after_each_update():
    seen, state = steps(with_ema(optax.adam(0.1), 0.9), 5)
    check(ema_params(state), seen, [0.9] * 5)
    assert state.count == 5


def test_decay_may_depend_on_the_number_of_updates():
    decay = lambda count: jnp.minimum(0.9, (1 + count) / (10 + count))  # noqa: E731
    seen, state = steps(with_ema(optax.sgd(0.1), decay), 4)
    check(ema_params(state), seen, [(1 + i) / (10 + i) for i in range(4)])


def test_updates_and_inner_state_are_those_of_the_wrapped_optimizer():
    plain, state = steps(optax.adam(0.1), 3)
    wrapped, ema_state = steps(with_ema(optax.adam(0.1), 0.5), 3)
    jax.tree.map(np.testing.assert_array_equal, (plain, state), (wrapped, ema_state.inner))


def test_float32_even_for_half_parameters_and_never_an_alias():
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    _, state = steps(with_ema(optax.sgd(1e-4), 0.999), 2, half)
    assert {x.dtype for x in jax.tree.leaves(ema_params(state))} == {jnp.dtype("float32")}
    start = with_ema(optax.sgd(0.1), 0.9).init(PARAMS)
    pointers = {x.unsafe_buffer_pointer() for x in jax.tree.leaves(PARAMS)}
    copies = {x.unsafe_buffer_pointer() for x in jax.tree.leaves(ema_params(start))}
    assert not pointers & copies, "donating state and params would give one buffer twice"


def test_found_wherever_it_is_and_paths_end_like_the_parameters():
    tx = optax.apply_if_finite(optax.chain(with_ema(optax.adam(0.1), 0.9)), 3)
    state = {"main": tx.init(PARAMS)}
    jax.tree.map(np.testing.assert_array_equal, ema_params(state), PARAMS)
    paths = [n for n in leaf_names(state) if "/ema/" in n]
    assert [p.split("/ema/")[1] for p in paths] == leaf_names(PARAMS)
    assert ema_params(optax.adam(0.1).init(PARAMS)) is None
    assert isinstance(with_ema(optax.sgd(0.1), 0.9).init(PARAMS), EmaState)


def test_needs_params():
    tx = with_ema(optax.sgd(0.1), 0.9)
    with pytest.raises(ValueError, match="needs params"):
        tx.update(PARAMS, tx.init(PARAMS))
