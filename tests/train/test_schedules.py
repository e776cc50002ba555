"""Schedules: MAE's formula, its ends, its units, and the golden curve."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskjax.errors import UserError
from maskjax.train.schedules import (
    scaled_lr,
    warmup_constant,
    warmup_cosine,
    warmup_drops,
    warmup_linear,
)

PEAK, FLOOR, WARMUP, EPOCHS = 2.4e-3, 1e-6, 5, 40


def textbook(epoch: float) -> float:
    """MAE's adjust_learning_rate in double precision."""
    if epoch < WARMUP:
        return PEAK * epoch / WARMUP
    angle = math.pi * (epoch - WARMUP) / (EPOCHS - WARMUP)
    return FLOOR + (PEAK - FLOOR) * 0.5 * (1.0 + math.cos(angle))


def test_cosine_follows_the_formula_at_fractional_epochs():
    epochs = np.linspace(0, EPOCHS, 401)
    schedule = warmup_cosine(PEAK, total=EPOCHS, warmup=WARMUP, floor=FLOOR)
    expected = [textbook(e) for e in epochs]
    np.testing.assert_allclose(schedule(epochs), expected, rtol=2e-6, atol=1e-9)


def test_golden_curve(golden):
    config, arrays = golden("mae")
    sched = config["sched"]
    schedule = warmup_cosine(
        sched["lr"], total=sched["epochs"], warmup=sched["warmup_epochs"], floor=sched["min_lr"]
    )
    np.testing.assert_allclose(schedule(arrays["sched/epoch"]), arrays["sched/lr"], atol=3e-10)


@pytest.mark.parametrize("per", [1, 7, 312.5])
def test_steps_and_epochs_are_the_same_schedule(per):
    by_step = warmup_cosine(PEAK, total=EPOCHS, warmup=WARMUP, floor=FLOOR, per=per)
    by_epoch = warmup_cosine(PEAK, total=EPOCHS, warmup=WARMUP, floor=FLOOR)
    steps = np.arange(0, int(EPOCHS * per), max(1, int(per)))
    np.testing.assert_allclose(by_step(steps), by_epoch(steps / per), rtol=1e-5)


def test_traced_int32_step_under_jit():
    schedule = warmup_cosine(PEAK, total=EPOCHS, warmup=WARMUP, floor=FLOOR, per=10)
    value = jax.jit(schedule)(jnp.int32(123))
    assert value.dtype == jnp.float32 and value.shape == ()
    np.testing.assert_allclose(value, textbook(12.3), rtol=1e-6)


def test_ends():
    for make in (warmup_cosine, warmup_linear):
        schedule = make(PEAK, total=EPOCHS, warmup=WARMUP, floor=FLOOR)
        assert schedule(0) == 0
        np.testing.assert_allclose(schedule(WARMUP), PEAK, rtol=1e-6)
        np.testing.assert_allclose(schedule(EPOCHS), FLOOR, rtol=1e-4)
        assert schedule(3 * EPOCHS) == schedule(EPOCHS), "must not rise again past the end"


def test_without_warmup_the_first_step_has_the_peak():
    assert warmup_cosine(PEAK, total=10)(0) == np.float32(PEAK)
    assert warmup_constant(PEAK)(0) == np.float32(PEAK)


def test_linear_and_constant():
    linear = warmup_linear(1.0, total=10, warmup=2, floor=0.2)
    np.testing.assert_allclose(linear(np.array([1, 2, 6, 10])), [0.5, 1.0, 0.6, 0.2], rtol=1e-6)
    constant = warmup_constant(1.0, total=10, warmup=4)
    np.testing.assert_allclose(constant(np.array([0, 1, 4, 10, 99])), [0, 0.25, 1, 1, 1])


def test_a_warmup_from_above_zero():
    for make in (warmup_cosine, warmup_linear, warmup_constant):
        schedule = make(PEAK, total=EPOCHS, warmup=WARMUP, start=0.1 * PEAK)
        expected = [0.1 * PEAK, 0.55 * PEAK, PEAK]
        np.testing.assert_allclose(schedule(np.array([0, WARMUP / 2, WARMUP])), expected, rtol=1e-6)


def test_a_cosine_under_the_warmup_is_the_one_without_warmup():
    options = {"total": EPOCHS, "floor": FLOOR}
    under = warmup_cosine(PEAK, warmup=WARMUP, restart=False, **options)
    epochs = np.linspace(WARMUP, EPOCHS, 20)
    np.testing.assert_array_equal(under(epochs), warmup_cosine(PEAK, **options)(epochs))
    assert under(WARMUP - 1e-3) > under(WARMUP), "a small drop where the warm-up ends"


@pytest.mark.parametrize("per", [1, 312.5, 625.25])
def test_drops_come_at_their_milestones(per):
    schedule = warmup_drops(1.0, milestones=(4, 8), factor=0.1, warmup=2, per=per)
    at = np.array([1, 2, 4, 8, 100])
    np.testing.assert_allclose(schedule(np.ceil(at * per)), [0.5, 1, 0.1, 0.01, 0.01], rtol=2e-3)
    np.testing.assert_allclose(schedule(np.ceil(at * per) - 1)[2:4], [1, 0.1], rtol=1e-6)
    inside = warmup_drops(1.0, milestones=(1,), factor=0.1, warmup=2, per=per)
    np.testing.assert_allclose(inside(np.array([1.5, 2.0]) * per), [0.75, 0.1], rtol=1e-6)


def test_a_run_that_ends_inside_its_warmup_only_warms_up():
    schedule = warmup_cosine(1.0, total=3, warmup=10)
    np.testing.assert_allclose(schedule(np.arange(4)), [0, 0.1, 0.2, 0.3], rtol=1e-6)


def test_scaling_rule():
    assert scaled_lr(1.5e-4, 4096) == pytest.approx(2.4e-3)
    assert scaled_lr(1e-4, 2048, 512) == pytest.approx(4e-4)


@pytest.mark.parametrize("bad", [{"total": 0}, {"total": 9, "warmup": -1}, {"total": 9, "per": 0}])
def test_impossible_lengths_are_refused(bad):
    with pytest.raises(UserError, match="total > 0"):
        warmup_cosine(1.0, **bad)
