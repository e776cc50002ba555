"""Steps that are not finite: left out, counted, told, and not for ever."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax.losses import Term
from maskjax.method import Mean, Method, Phase
from maskjax.train.guard import NonFiniteLossError, Watch, gradient_leaves, new_guard, rearmed
from maskjax.train.spikes import skip_spikes
from maskjax.train.state import create_state
from maskjax.train.step import make_train_step

LIMIT, B = 3, 4
MAIN = {"main": optax.adam(0.1)}


@jax.custom_vjp
def breakable(b, scale):
    """0, with an infinite gradient where any scale is infinite."""
    return jnp.float32(0)


def _backward(scale, g):
    return jnp.where(jnp.isinf(scale).any(), jnp.inf, g) * jnp.ones(2), jnp.zeros_like(scale)


breakable.defvjp(lambda b, scale: (jnp.float32(0), scale), _backward)


def loss(params, extra, batch, draws, step, static):
    error = jnp.square(params["a"] * batch["x"] - 1).sum()
    terms = {"fit": Term(error + breakable(params["b"], batch["scale"]), B)}
    return terms, {"x": Mean(batch["x"].sum(), B)}


def init(key, batch):
    return {"a": jnp.float32(0.5), "b": jnp.zeros(2)}, {"seen": jnp.float32(0)}


def count(params, extra, aux, step):
    return {"seen": extra["seen"] + aux["x"].sum}


TOY = Method(init, (Phase(loss),), {}, after_update=count)


def batch_of(index, kind="good"):
    x = np.random.default_rng(index).normal(size=(B, 1)).astype(np.float32)
    scale = np.zeros((B, 1), np.float32)
    if kind == "nan":
        x[1] = np.nan
    if kind == "leaf":
        scale[2] = np.inf
    return {"x": x, "scale": scale, "position": tiny.positions(B, B * index)}


def fresh():
    state = create_state(TOY, MAIN, jax.random.key(0), batch_of(0))
    return dataclasses.replace(state, guard=new_guard(TOY, state.params))


@functools.cache
def step(limit=LIMIT):
    return make_train_step(TOY, MAIN, max_skipped=limit)


def run(kinds, state=None, start=0):
    state, seen = state or fresh(), []
    for index, kind in enumerate(kinds, start):
        state, metrics = step()(state, batch_of(index, kind))
        seen.append(jax.device_get(metrics))
    return jax.device_get(state), seen


def trained(state):
    return jax.tree.leaves((state.params, state.opt_state, state.extra))


KINDS = st.lists(st.sampled_from(["good", "good", "good", "nan", "leaf"]), min_size=1, max_size=10)


@settings(max_examples=40, deadline=None)
@given(KINDS)
def test_a_run_with_broken_steps_is_one_without_them(kinds):
    """Up to the first LIMIT of them in a row; after these nothing changes."""
    found, seen = run(kinds)
    in_row, taken = 0, []
    for index, kind in enumerate(kinds):
        in_row = 0 if kind == "good" and in_row < LIMIT else in_row + 1
        taken += [index] if in_row == 0 else []
    expected = fresh()
    for index in taken:
        expected, _ = step()(expected, batch_of(index))
    for ours, theirs in zip(trained(found), trained(expected), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert found.step == len(kinds)
    assert found.guard["skipped"] == len(kinds) - len(taken)
    assert found.guard["in_row"] == in_row
    assert seen[-1]["guard/in_row"] == in_row


def test_what_went_first_is_remembered():
    _, seen = run(["good", "leaf", "nan", "nan", "good"])
    leaves = gradient_leaves(TOY, fresh().params)
    assert leaves == ("a", "b")
    watch = Watch(LIMIT, leaves)
    assert [watch.over(metrics) for metrics in seen] == [False, False, False, True, True]
    error = watch.error(5, seen[-1])
    assert isinstance(error, NonFiniteLossError)
    assert str(error).startswith("step 2: not finite: the gradient of b (1 of 2 leaves); it and")
    assert "the state of step 1 is kept, saved as step 5" in str(error)


@pytest.mark.parametrize(
    ("leaves", "message"),
    [
        ([True, True], "not finite: the loss or all of the gradient (so it began in the forward"),
        ([False, False], "not finite: the loss, with a finite gradient"),
        ([True, False], "not finite: the gradient of a (1 of 2 leaves)"),
    ],
)
def test_where_it_began(leaves, message):
    metrics = {"guard/in_row": 3, "guard/since": 0, "guard/leaves": np.array(leaves)}
    assert message in str(Watch(LIMIT, ("a", "b")).error(3, metrics))


def test_a_step_that_was_left_out_logs_what_is_finite():
    _, seen = run(["good", "nan", "good"])
    good, left_out, again = (Watch(LIMIT, ("a", "b")).logged(metrics) for metrics in seen)
    assert good.keys() == again.keys() == {"loss", "loss/fit", "grad_norm", "x", "guard/skipped"}
    assert left_out == {"guard/skipped": 1.0}
    assert again["guard/skipped"] == 1.0


def test_a_resumed_run_gets_its_patience_back_and_keeps_the_count():
    stopped, _ = run(["nan"] * LIMIT)
    stopped = jax.device_put(stopped)
    again, seen = run(["good"], rearmed(stopped), start=LIMIT)
    assert again.guard["skipped"] == LIMIT
    assert seen[0]["guard/in_row"] == 0
    assert not np.array_equal(again.params["a"], fresh().params["a"])


def test_without_a_guard_nothing_is_left_out():
    state = create_state(TOY, MAIN, jax.random.key(0), batch_of(0))
    assert state.guard == {}
    state, metrics = make_train_step(TOY, MAIN)(state, batch_of(0, "nan"))
    assert np.isnan(state.params["a"])
    assert not any(name.startswith("guard") for name in metrics)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_one_broken_micro_batch_leaves_out_the_whole_step(accumulate):
    guarded = make_train_step(TOY, MAIN, accumulate=accumulate, max_skipped=LIMIT)
    before = jax.device_get(fresh())
    after, metrics = guarded(fresh(), batch_of(0, "nan"))
    for ours, theirs in zip(trained(jax.device_get(after)), trained(before), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert metrics["guard/skipped"] == 1


def test_a_spike_of_the_loss_is_left_out_by_the_step():
    """The optimizer is told the loss; what it left out is a metric, beside the guard's."""
    optimizers = {"main": skip_spikes(optax.sgd(1e-4), 6.0)}
    state = create_state(TOY, optimizers, jax.random.key(0), batch_of(0))
    step = make_train_step(TOY, optimizers)
    for index in range(120):
        batch = batch_of(index % 7)
        if index == 110:
            batch["x"] = 100 * batch["x"]
            before = np.asarray(state.params["a"])
        state, metrics = step(state, batch)
        if index == 110:
            assert np.asarray(state.params["a"]) == before
    assert metrics["guard/spikes"] == 1
    assert "guard/skipped" not in metrics
