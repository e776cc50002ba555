"""Iterative decoding, masks of a traced count, and progressive dropping."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax.masking import confidence, progressive
from maskjax.masking.confidence import SCHEDULES

SETTINGS = settings(max_examples=20, deadline=None, derandomize=True)
seeds = st.integers(0, 2**31)
NUM = 20


@given(st.sampled_from(list(SCHEDULES)), st.integers(1, 300), st.integers(1, 30), st.booleans())
def test_schedules_fall_to_0(schedule, num_tokens, num_steps, strict):
    if strict and num_steps > num_tokens:
        return
    counts = confidence.hidden_counts(num_tokens, num_steps, schedule, strict=strict)
    assert len(counts) == num_steps and counts[-1] == 0
    steps = [a - b for a, b in itertools.pairwise((num_tokens, *counts))]
    assert min(steps) >= strict
    if not strict:
        curve = SCHEDULES[schedule]
        expected = [math.floor(num_tokens * curve((i + 1) / num_steps)) for i in range(num_steps)]
        assert list(counts[:-1]) == expected[:-1]


def test_the_cosine_of_enat():
    assert confidence.hidden_counts(256, 8) == (251, 236, 212, 181, 142, 97, 49, 0)
    assert confidence.hidden_counts(16, 16)[:2] == (15, 15)
    assert confidence.hidden_counts(16, 16, strict=True)[:3] == (15, 14, 13)


@SETTINGS
@given(seeds)
def test_the_least_confident_stay_hidden_and_visible_sets_are_nested(seed):
    rng = np.random.default_rng(seed)
    split = confidence.all_hidden(NUM)
    for count in (17, 9, 9, 0):
        score = rng.normal(size=NUM).astype(np.float32)
        after = _reveal(jnp.asarray(score), split, count)
        hidden = np.asarray(split.hidden_ids)
        least = hidden[np.argsort(score[hidden])[:count]]
        assert set(np.asarray(after.hidden_ids).tolist()) == set(least.tolist())
        assert (after.num_hidden, after.num_visible) == (count, NUM - count)
        np.testing.assert_array_equal(after.visible_ids[: split.num_visible], split.visible_ids)
        fresh = np.asarray(confidence.newly_visible(split, after))
        np.testing.assert_array_equal(np.sort(score[fresh])[::-1], score[fresh])
        assert set(fresh.tolist()) == set(hidden.tolist()) - set(least.tolist())
        split = after


_reveal = jax.jit(
    lambda score, split, count: confidence.reveal(score, split, num_hidden=count),
    static_argnums=2,
)


def test_extreme_confidence_and_batches():
    score = jnp.array([jnp.inf, -jnp.inf, 0.0, jnp.nan, 5.0])
    after = confidence.reveal(score, confidence.all_hidden(5), num_hidden=2)
    assert after.visible_ids.tolist() == [0, 4, 2]
    batch = jax.vmap(lambda s: confidence.reveal(s, confidence.all_hidden(5), num_hidden=2))
    both = batch(jnp.stack([score, -score]))
    np.testing.assert_array_equal(both.ids[0], after.ids)
    again = confidence.reveal(jnp.stack([score, score]), both, num_hidden=1)
    np.testing.assert_array_equal(again.ids[:, :3], both.visible_ids)


def test_scores_are_log_probabilities_with_noise():
    rng = np.random.default_rng(0)
    log_probs = jax.nn.log_softmax(jnp.asarray(rng.normal(size=(2, NUM, 6)), jnp.float32))
    sampled, gumbel = rng.integers(0, 6, (2, NUM)), rng.gumbel(size=(2, NUM)).astype(np.float32)
    found = confidence.score(gumbel, log_probs, jnp.asarray(sampled), temperature=1.5)
    own = np.take_along_axis(np.asarray(log_probs), sampled[..., None], -1)[..., 0]
    np.testing.assert_allclose(found, own + 1.5 * gumbel, rtol=1e-6)
    cold = confidence.score(jax.random.key(0), log_probs[0], jnp.asarray(sampled[0]), temperature=0)
    np.testing.assert_allclose(cold, own[0], rtol=1e-6)


@SETTINGS
@given(seeds, st.integers(0, NUM), st.integers(0, NUM))
def test_traced_counts_are_exact(seed, number, more):
    rng = np.random.default_rng(seed)
    first, second = rng.uniform(size=(2, NUM)).astype(np.float32)
    hidden = np.asarray(_hide(first, number))
    np.testing.assert_array_equal(hidden, np.argsort(first) < number)
    assert hidden.sum() == number
    further = np.asarray(_hide_more(second, hidden, more))
    assert further.sum() == min(number + more, NUM) and further[hidden].all()
    visible = np.flatnonzero(~hidden)
    smallest = visible[np.argsort(second[visible])[:more]]
    np.testing.assert_array_equal(np.flatnonzero(further & ~hidden), np.sort(smallest))


_hide = jax.jit(lambda noise, number: confidence.hide(noise, NUM, number))
_hide_more = jax.jit(confidence.hide_more)


def test_counts_for_each_example_of_a_batch():
    noise = jax.random.uniform(jax.random.key(0), (3, NUM))
    hidden = confidence.hide(noise, NUM, jnp.array([0, 7, NUM]))
    np.testing.assert_array_equal(hidden.sum(1), [0, 7, NUM])
    more = confidence.hide_more(noise, hidden, jnp.array([2, 0, 5]))
    np.testing.assert_array_equal(more.sum(1), [2, 7, NUM])


def test_training_counts_leave_something_on_both_sides():
    ratios = jnp.array([0.0, 0.01, 0.5, 0.78, 1.0])
    np.testing.assert_array_equal(confidence.training_count(ratios, 256), [1, 3, 128, 200, 255])


# Progressive dropping


def test_keep_counts_multiply_to_the_final_ratio():
    assert progressive.keep_counts(196, 0.65) == (138, 97, 68)
    assert progressive.keep_counts(196, 0.75, 1) == (49,)
    assert progressive.keep_counts(10, 0.0) == (10, 10, 10)
    with pytest.raises(ValueError, match="at least 1"):
        progressive.keep_counts(10, 0.5, 0)


@SETTINGS
@given(seeds, st.sampled_from([None, 2, 6]))
def test_redundancy_is_the_mean_cosine_to_the_others(seed, num_anchors):
    rng = np.random.default_rng(seed)
    x, noise = rng.normal(size=(9, 4)), rng.uniform(size=9).astype(np.float32)
    active = rng.uniform(size=9) < 0.7
    active[:2] = True
    anchors = active.copy()
    if num_anchors is not None:
        anchors[np.flatnonzero(active)[np.argsort(noise[active])[num_anchors:]]] = False
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, 0)
    expected = cosine[:, anchors].sum(1) / np.maximum(anchors.sum() - anchors.astype(int), 1)
    options = {"noise_or_key": noise, "num_anchors": num_anchors}
    found = progressive.redundancy(jnp.asarray(x), jnp.asarray(active), **options)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    gradient = jax.grad(lambda x: progressive.redundancy(x).sum())(jnp.asarray(x))
    assert not gradient.any()


def test_duplicates_go_before_an_isolated_token():
    x = np.eye(6, dtype=np.float32)[:5]
    x[3] = 2 * x[1]
    split = progressive.progressive([jnp.asarray(x)], (3,))
    assert set(split.hidden_ids.tolist()) == {1, 3}
    assert split.visible_ids.tolist() == [0, 2, 4]


@SETTINGS
@given(seeds)
def test_stages_are_nested_and_look_at_their_own_features(seed):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(3, 12, 5)).astype(np.float32)
    split, counts = _progressive(features), (9, 5, 2)
    np.testing.assert_array_equal(np.sort(split.ids), np.arange(12))
    assert split.cuts == (2, 5, 9)
    ids = np.arange(12)
    for point, count in enumerate(counts):
        score = np.asarray(progressive.redundancy(jnp.asarray(features[point, ids])))
        ids = np.sort(ids[np.argsort(score, kind="stable")[:count]])
        active = np.asarray(progressive.active_ids(split, point))
        np.testing.assert_array_equal(np.sort(active), ids)
    np.testing.assert_array_equal(split.visible_ids, ids)


_progressive = jax.jit(lambda x: progressive.progressive(list(x), (9, 5, 2)))


def test_anchors_of_each_point_by_noise():
    rng = np.random.default_rng(0)
    features = [jnp.asarray(rng.normal(size=(8, 3)), jnp.float32) for _ in range(2)]
    noise = list(rng.uniform(size=(2, 8)).astype(np.float32))
    split = progressive.progressive(features, (5, 3), noise_or_key=noise, num_anchors=3)
    first = progressive.redundancy(features[0], noise_or_key=noise[0], num_anchors=3)
    kept, gone = progressive.drop(first, num_keep=5)
    np.testing.assert_array_equal(split.part(2), gone)
    np.testing.assert_array_equal(np.sort(progressive.active_ids(split, 0)), kept)
    with pytest.raises(ValueError, match=r"0\.\.8"):
        progressive.drop(first, num_keep=9)
