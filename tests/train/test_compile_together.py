"""Every process compiles the step before one runs it."""

import functools

import jax
import jax.numpy as jnp
import pytest

from maskjax.errors import UserError
from maskjax.train import blackboard, processes
from maskjax.train.compile_together import CompiledTogether, compiled_together


@functools.partial(jax.jit, static_argnums=2, donate_argnums=0)
def step(state, batch, static):
    return state + batch * (static or 1), {"loss": batch.sum()}


def test_results_are_those_of_the_step_and_the_wait_comes_before_the_first_run(monkeypatch):
    waits = []
    monkeypatch.setattr(blackboard, "wait", lambda name, seconds: waits.append(name) or [])
    together, batch = CompiledTogether(step), jnp.ones(3)
    state, expected = jnp.zeros(3), jnp.zeros(3)
    for static in (None, None, 2, None, 2):
        state, metrics = together(state, batch, static)
        expected, _ = step(expected, batch, static)
        assert metrics["loss"] == 3
    assert state.tolist() == expected.tolist() == [7, 7, 7]
    assert waits == ["compiled/1", "compiled/2"]


def test_who_is_late_is_named_and_nothing_has_run(monkeypatch):
    monkeypatch.setattr(blackboard, "wait", lambda name, seconds: [1])
    monkeypatch.setattr(processes, "names", lambda: ["a:1", "b:2"])
    state = jnp.zeros(3)
    with pytest.raises(UserError, match=r"process 1 \(b:2\) did not compile the step within 5 s"):
        CompiledTogether(step, 5)(state, jnp.ones(3))
    assert state.tolist() == [0, 0, 0]  # it was not donated


def test_one_process_needs_none_of_it():
    assert compiled_together(step) is step
