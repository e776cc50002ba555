"""Ratios over time and the static counts they become."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax import masking
from maskjax.masking import schedules
from maskjax.masking.counts import bucket_counts, count_hidden, nearest_count, visible_set

SETTINGS = settings(max_examples=30, deadline=None, derandomize=True)
RAMPS = {
    "constant": schedules.constant(0.75),
    "linear": schedules.linear(0.5, 0.9),
    "cosine": schedules.cosine(0.9, 0.5),
    "stepwise": schedules.stepwise((0.25, 0.75, 0.5), (0.5, 0.75)),
    "uniform": schedules.uniform(0.5, 0.9),
}
PROGRESS = [0.0, 0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", [0.75] * 5),
        ("linear", [0.5, 0.6, 0.7, 0.8, 0.9]),
        ("cosine", [0.9 - 0.2 * (1 - math.cos(math.pi * p)) for p in PROGRESS]),
        ("stepwise", [0.25, 0.25, 0.75, 0.5, 0.5]),
        ("uniform", [0.6] * 5),
    ],
)
def test_values_on_the_host_and_traced(name, expected):
    ratio = RAMPS[name]
    np.testing.assert_allclose([ratio(p, 0.25) for p in PROGRESS], expected, rtol=1e-12)
    traced = jax.jit(ratio)(jnp.asarray(PROGRESS), 0.25)
    np.testing.assert_allclose(traced, expected, rtol=1e-6)


@pytest.mark.parametrize("name", RAMPS)
def test_progress_outside_0_to_1_is_clipped(name):
    ratio = RAMPS[name]
    assert ratio(-3.0) == ratio(0.0) and ratio(7.0) == ratio(1.0)
    assert not isinstance(ratio(0.3), jax.Array), "a number on the host stays there"


@SETTINGS
@given(st.floats(0, 1), st.floats(0, 1, exclude_max=True))
def test_ratios_stay_in_their_range(progress, draw):
    for ratio in RAMPS.values():
        assert 0.25 - 1e-9 <= ratio(progress, draw) <= 0.9 + 1e-9


@pytest.mark.parametrize(
    "build",
    [
        lambda: schedules.constant(1.5),
        lambda: schedules.linear(-0.1, 0.5),
        lambda: schedules.cosine(0.1, float("nan")),
        lambda: schedules.uniform(0.1, 2),
        lambda: schedules.stepwise((), ()),
    ],
)
def test_ratios_outside_their_range(build):
    with pytest.raises(ValueError, match=r"hidden shares, in \[0, 1\]"):
        build()


@pytest.mark.parametrize("edges", [(), (0.5, 0.6), (0.0,), (1.0,)])
def test_boundaries_must_rise(edges):
    with pytest.raises(ValueError, match="one boundary fewer"):
        schedules.stepwise((0.1, 0.2), edges)


@pytest.mark.parametrize(
    ("num", "ratio", "rounding", "hidden"),
    [
        (196, 0.9, "floor", 176),  # CroCo, VideoMAE V2; MAE's rule hides 177
        (25, 0.9, "floor", 22),
        (196, 0.5, "floor", 98),  # CAE
        (36, 0.6, "ceil", 22),  # SimMIM
        (49, 0.6, "ceil", 30),
        (10, 0.25, "nearest", 2),
        (10, 1.0, "floor", 10),
    ],
)
def test_counts_by_the_rule_of_each_method(num, ratio, rounding, hidden):
    assert count_hidden(num, ratio, rounding=rounding) == hidden


def test_count_hidden_refuses():
    with pytest.raises(ValueError, match="hidden share"):
        count_hidden(10, 1.1)
    with pytest.raises(ValueError, match="floor, ceil, nearest"):
        count_hidden(10, 0.5, rounding="up")


@SETTINGS
@given(
    st.integers(1, 300),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
    st.integers(1, 9),
    st.integers(1, 8),
    st.floats(0, 1),
)
def test_buckets(num_tokens, ratios, num_buckets, multiple, ratio):
    low, high = sorted(ratios)
    multiple = min(multiple, num_tokens)
    counts = bucket_counts(num_tokens, low, high, num_buckets=num_buckets, multiple=multiple)
    assert 1 <= len(counts) <= num_buckets and list(counts) == sorted(set(counts))
    assert all(1 <= c <= num_tokens and c % multiple == 0 for c in counts)
    nearest = nearest_count(num_tokens, ratio, counts)
    wanted = num_tokens * (1 - ratio)
    assert abs(nearest - wanted) == min(abs(c - wanted) for c in counts)


def test_buckets_span_the_range():
    assert bucket_counts(196, 0.5, 0.75, num_buckets=3) == (49, 74, 98)
    assert bucket_counts(196, 0.5, 0.75, num_buckets=3, multiple=8) == (48, 72, 96)
    assert bucket_counts(196, 0.5, 0.75, num_buckets=1) == (74,)
    assert nearest_count(196, 0.6, (49, 74, 98)) == 74
    assert nearest_count(10, 0.5, (4, 6)) == 6


@pytest.mark.parametrize(
    "call",
    [
        lambda: bucket_counts(16, 0.6, 0.5, num_buckets=2),
        lambda: bucket_counts(16, 0.5, 0.6, num_buckets=0),
        lambda: bucket_counts(16, 0.5, 0.6, num_buckets=2, multiple=17),
        lambda: nearest_count(16, 0.5, ()),
        lambda: nearest_count(16, 1.5, (8,)),
    ],
)
def test_buckets_refuse(call):
    with pytest.raises(ValueError, match="needed; got"):
        call()


def test_one_executable_for_a_ratio_that_is_data():
    """A split at the largest count, of which a traced number is valid; compiled once."""
    traces = []

    @jax.jit
    def draw(key, progress):
        traces.append(1)
        split = masking.random(key, (4, 5), num_visible=15)
        count = jnp.round(20 * (1 - RAMPS["linear"](progress))).astype(jnp.int32)
        return split.visible_ids, visible_set(split, count)

    for progress, expected in ((0.0, 10), (0.5, 6), (1.0, 2)):
        ids, tokens = draw(jax.random.key(0), jnp.float32(progress))
        assert tokens.count() == expected and tokens.ids.shape == (15,)
        np.testing.assert_array_equal(tokens.valid, np.arange(15) < expected)
        np.testing.assert_array_equal(tokens.ids, ids)
    assert len(traces) == 1


def test_visible_set_of_a_batch():
    noise = jax.random.uniform(jax.random.key(0), (3, 8))
    split = masking.random(noise, 8, num_visible=5)
    tokens = visible_set(split, jnp.asarray([0, 2, 9]))
    assert tokens.count().tolist() == [0, 2, 5]
    assert visible_set(split, 4).count().tolist() == [4, 4, 4]
