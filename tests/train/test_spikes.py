"""Updates of steps whose loss jumps: left out, counted, and accepted when it stays up."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax.train.optim import build_optimizer
from maskjax.train.spikes import _PATIENCE, _WARMUP, skip_spikes, spikes_skipped

TX = skip_spikes(optax.trace(0.9), 6.0)
PARAMS = {"w": jnp.ones(3)}


@jax.jit
def course(values):
    """Runs `TX` over losses; updates [T, 3], counts [T], and the last state."""

    def body(state, value):
        updates, state = TX.update({"w": jnp.ones(3)}, state, PARAMS, value=value)
        return state, (updates["w"], state.skipped)

    state, (updates, skipped) = jax.lax.scan(body, TX.init(PARAMS), values)
    return updates, skipped, state


def noisy(length, level=1.0):
    return (level + 0.1 * np.random.default_rng(0).normal(size=length)).astype(np.float32)


def test_one_spike_is_left_out_and_leaves_no_trace_in_the_momentum():
    values = noisy(150)
    values[120] = 9.0
    updates, skipped, _ = course(values)
    assert (np.asarray(updates[120]) == 0).all()
    assert skipped.tolist() == [0] * 120 + [1] * 30
    without = course(np.delete(values, 120))[0]
    np.testing.assert_array_equal(np.delete(updates, 120, 0), without)


def test_nothing_is_left_out_while_it_measures():
    values = noisy(_WARMUP)
    values[50] = 100.0
    assert course(values)[1][-1] == 0


def test_a_new_level_is_accepted_after_a_while():
    values = np.concatenate([noisy(150), noisy(150, level=9.0)])
    _, skipped, state = course(values)
    assert skipped[-1] == _PATIENCE
    assert abs(state.mean - 9) < 0.5
    assert state.in_row == 0


def test_a_falling_loss_and_nan_are_none_of_its_business():
    values = np.linspace(10, 1, 300).astype(np.float32)
    assert course(values)[1][-1] == 0
    values[200] = np.nan
    assert course(values)[1][200] == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16), st.floats(0.5, 100.0))
def test_the_scale_of_the_loss_does_not_matter(seed, scale):
    rng = np.random.default_rng(seed)
    values = rng.normal(5, 0.1, 160).astype(np.float32)
    values[rng.integers(110, 160, 3)] += 8
    ones = course(values)[1]
    np.testing.assert_array_equal(
        course(np.float32(2.0 ** round(np.log2(scale))) * values)[1], ones
    )
    assert ones[-1] >= 1


def test_by_config():
    class Config:
        lr, spike_sigmas, ema = 0.1, 4.0, 0.9

    length = {"total_steps": 10, "steps_per_epoch": 1.0, "global_batch": 8}
    tx, _ = build_optimizer(Config, **length)
    state = tx.init(PARAMS)
    assert spikes_skipped(state) == 0
    with pytest.raises(ValueError, match="needs value"):
        tx.update(PARAMS, state, PARAMS)
    Config.spike_sigmas = 0.0
    assert spikes_skipped(build_optimizer(Config, **length)[0].init(PARAMS)) is None
