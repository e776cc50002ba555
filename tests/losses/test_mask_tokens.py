"""MTO's formulas (our reconstruction): what they must hold, whatever the numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax.losses import mask_tokens
from maskjax.masking import attention_ops

VISIBLE = jnp.asarray([True, False, True, True, False, True])
HIDDEN = ~VISIBLE
seeds = st.integers(0, 99)


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_2_evenness_lies_in_0_to_1(seed):
    found = mask_tokens.evenness(mask_tokens.affinity(normal(seed, 6, 5)), VISIBLE)
    assert ((found >= 0) & (found <= 1 + 1e-6)).all()


def test_2_evenness_is_1_for_equal_affinities_and_0_for_one_alone():
    assert mask_tokens.evenness(jnp.full((6, 6), 0.3), VISIBLE) == pytest.approx(1)
    alone = jnp.full((6, 6), -1.0).at[:, 2].set(1)
    assert mask_tokens.evenness(alone, VISIBLE, 0.01) == pytest.approx(0, abs=1e-6)
    # What is not visible does not matter.
    same = mask_tokens.evenness(jnp.full((6, 6), 0.3).at[:, 1].set(0.9), VISIBLE)
    assert same == pytest.approx(1)


@settings(max_examples=20, deadline=None)
@given(seeds, st.floats(0, 8))
def test_3_recalibrated_rows_sum_to_1_and_keep_what_is_visible(seed, beta):
    scores = normal(seed, 6, 6)
    before = attention_ops.weights(scores)
    bias = mask_tokens.recalibration(VISIBLE, HIDDEN, -beta)
    after = attention_ops.weights(scores, bias=bias)
    np.testing.assert_allclose(after.sum(-1), 1, atol=1e-6)
    np.testing.assert_array_equal(after[HIDDEN], before[HIDDEN])
    ratio = lambda x: x[VISIBLE][:, VISIBLE] / x[VISIBLE][:, VISIBLE].sum(-1, keepdims=True)  # noqa: E731
    np.testing.assert_allclose(ratio(after), ratio(before), rtol=1e-4)
    spent = lambda x: x[VISIBLE][:, HIDDEN].sum(-1)  # noqa: E731
    assert (spent(after) <= spent(before) + 1e-6).all()


def test_4_without_end_visible_tokens_ignore_mask_tokens():
    scores = normal(0, 6, 6)
    bias = mask_tokens.recalibration(VISIBLE, HIDDEN, -1e9)
    found = attention_ops.weights(scores, bias=bias)[VISIBLE]
    assert (found[:, HIDDEN] == 0).all()
    expected = jax.nn.softmax(scores[VISIBLE][:, VISIBLE], -1)
    np.testing.assert_allclose(found[:, VISIBLE], expected, atol=1e-6)


def test_5_singularity_moves_mask_tokens_only():
    def loss(x):
        return jnp.where(HIDDEN, mask_tokens.singularity_loss(x, VISIBLE), 0).sum()

    gradient = jax.grad(loss)(normal(0, 6, 5))
    assert (gradient[VISIBLE] == 0).all()
    assert (gradient[HIDDEN] != 0).any(-1).all()

    def apart(x, sources):
        return mask_tokens.singularity_loss(x, jnp.ones(4, bool), sources=sources).sum()

    moved, still = jax.grad(apart, (0, 1))(normal(0, 2, 5), normal(1, 4, 5))
    assert (moved != 0).any()
    assert (still == 0).all()


def test_mask_tokens_apart_from_their_sources_have_the_same_losses():
    x, scores = normal(0, 6, 5), normal(1, 2, 6, 6)
    whole = mask_tokens.singularity_loss(x, VISIBLE)[HIDDEN]
    parts = mask_tokens.singularity_loss(x[HIDDEN], jnp.ones(4, bool), sources=x[VISIBLE])
    np.testing.assert_allclose(parts, whole, rtol=1e-5)
    attention = jax.nn.softmax(scores, -1)
    rows = mask_tokens.restoration_loss(attention[:, HIDDEN], VISIBLE)
    np.testing.assert_allclose(rows, mask_tokens.restoration_loss(attention, VISIBLE)[:, HIDDEN])


def test_5_the_other_two_reach_scores():
    def restoration(scores):
        values = mask_tokens.restoration_loss(jax.nn.softmax(scores, -1), VISIBLE)
        return jnp.where(HIDDEN, values, 0).sum()

    def sparsity(scores):
        values = mask_tokens.sparsity_loss(jax.nn.softmax(scores, -1), HIDDEN, True)
        return jnp.where(VISIBLE, values, 0).sum()

    scores = normal(0, 2, 6, 6)
    assert (jax.grad(restoration)(scores)[:, HIDDEN] != 0).any()
    # A step against the gradient takes attention off the mask tokens.
    stepped = scores - 0.1 * jax.grad(sparsity)(scores)
    spent = lambda s: jax.nn.softmax(s, -1)[:, VISIBLE][..., HIDDEN].sum()  # noqa: E731
    assert spent(stepped) < spent(scores)


def test_6_the_order_of_tokens_does_not_matter():
    x, attention = normal(0, 6, 5), jax.nn.softmax(normal(1, 2, 6, 6), -1)
    order = jnp.asarray([3, 0, 5, 1, 4, 2])
    mixed = attention[:, order][..., order]
    for whole, moved in (
        (
            mask_tokens.singularity_loss(x, VISIBLE),
            mask_tokens.singularity_loss(x[order], VISIBLE[order]),
        ),
        (
            mask_tokens.restoration_loss(attention, VISIBLE),
            mask_tokens.restoration_loss(mixed, VISIBLE[order]),
        ),
        (
            mask_tokens.sparsity_loss(attention, HIDDEN, True),
            mask_tokens.sparsity_loss(mixed, HIDDEN[order], True),
        ),
    ):
        np.testing.assert_allclose(moved, whole[..., order], rtol=1e-5)


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_7_a_step_on_singularity_raises_heterogeneity(seed):
    x = normal(seed, 6, 8)

    def loss(x):
        return jnp.where(HIDDEN, mask_tokens.singularity_loss(x, VISIBLE), 0).sum()

    het = lambda x: mask_tokens.heterogeneity(x, VISIBLE)[HIDDEN].mean()  # noqa: E731
    assert het(x - 1e-2 * jax.grad(loss)(x)) > het(x)
