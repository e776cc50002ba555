"""random, from_scores, from_hidden and count_visible."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax import masking

SETTINGS = settings(max_examples=40, deadline=None, derandomize=True)
# Few sizes, since each one is compiled.
sizes = st.sampled_from([1, 2, 7, 25]).flatmap(
    lambda num: st.tuples(st.just(num), st.integers(0, num))
)
seeds = st.integers(0, 2**31)


def check(split, num_tokens, num_visible):
    """What every split promises."""
    ids = np.asarray(split.ids)
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(np.sort(ids), np.arange(num_tokens))
    assert split.cuts == (num_visible,)
    assert split.visible_ids.shape == (num_visible,)
    assert split.hidden_ids.shape == (num_tokens - num_visible,)
    np.testing.assert_array_equal(np.concatenate([split.part(0), split.part(1)]), ids)
    inverse = np.asarray(split.inverse())
    np.testing.assert_array_equal(ids[inverse], np.arange(num_tokens))
    np.testing.assert_array_equal(inverse[ids], np.arange(num_tokens))
    hidden = np.asarray(split.hidden())
    assert hidden.sum() == num_tokens - num_visible
    assert not hidden[split.visible_ids].any()
    assert hidden[split.hidden_ids].all()


@SETTINGS
@given(sizes, seeds)
def test_random_from_noise(size, seed):
    num, visible = size
    noise = np.random.default_rng(seed).uniform(size=num).astype(np.float32)
    split = masking.random(jnp.asarray(noise), num, num_visible=visible)
    check(split, num, visible)
    # MAE: the smallest noise stays visible, in the order of the noise.
    np.testing.assert_array_equal(split.ids, np.argsort(noise, kind="stable"))


@SETTINGS
@given(sizes, seeds)
def test_raster_order_keeps_the_parts_and_sorts_inside(size, seed):
    num, visible = size
    noise = jnp.asarray(np.random.default_rng(seed).uniform(size=num))
    split = masking.random(noise, num, num_visible=visible)
    raster = masking.random(noise, num, num_visible=visible, order="raster")
    check(raster, num, visible)
    for i in range(2):
        np.testing.assert_array_equal(raster.part(i), np.sort(split.part(i)))


@SETTINGS
@given(sizes, seeds, st.integers(1, 4))
def test_from_scores_with_ties(size, seed, levels):
    num, visible = size
    scores = np.random.default_rng(seed).integers(0, levels, num)
    split = masking.from_scores(jnp.asarray(scores), num_visible=visible)
    check(split, num, visible)
    np.testing.assert_array_equal(split.ids, np.lexsort((np.arange(num), scores)))


@SETTINGS
@given(sizes, seeds, st.floats(0, 1))
def test_from_hidden(size, seed, share):
    num, visible = size
    hidden = np.random.default_rng(seed).uniform(size=num) < share
    split, moved = masking.from_hidden(jnp.asarray(hidden), num_visible=visible)
    check(split, num, visible)
    shown = int((~hidden).sum())
    assert moved == abs(shown - visible)
    assert (np.asarray(split.hidden()) != hidden).sum() == moved
    # The last visible ones in raster order are hidden, the first hidden ones shown.
    order = np.concatenate([np.flatnonzero(~hidden), np.flatnonzero(hidden)])
    np.testing.assert_array_equal(split.ids, order)


def test_nan_scores_are_hidden():
    scores = jnp.array([0.5, jnp.nan, -1.0, jnp.inf])
    assert masking.from_scores(scores, num_visible=2).ids.tolist() == [2, 0, 3, 1]


def test_the_same_key_gives_the_same_split_and_another_key_another():
    draw = lambda key: masking.random(key, (4, 4), num_visible=4).ids.tolist()  # noqa: E731
    assert draw(jax.random.key(3)) == draw(jax.random.key(3))
    assert draw(jax.random.key(3)) != draw(jax.random.key(4))


@pytest.mark.parametrize("order", ["noise", "raster"])
def test_eager_jit_vmap_and_batched_noise_agree(order):
    def sample(key):
        return masking.random(key, (3, 4), num_visible=5, order=order)

    keys = jax.random.split(jax.random.key(0), 6)
    eager = np.stack([sample(key).ids for key in keys])
    jitted = np.stack([jax.jit(sample)(key).ids for key in keys])
    noise = jnp.stack([jax.random.uniform(key, (12,)) for key in keys])
    batched = masking.random(noise, (3, 4), num_visible=5, order=order)
    for other in (jitted, jax.vmap(sample)(keys).ids, batched.ids):
        np.testing.assert_array_equal(eager, other)
    assert batched.visible_ids.shape == (6, 5)


@pytest.mark.parametrize("grid", [9, (9,), (3, 3), [3, 3], (1, 3, 3)])
def test_any_number_of_grid_axes(grid):
    assert masking.random(jax.random.key(0), grid, num_visible=4).num_tokens == 9


def test_every_position_is_hidden_equally_often():
    grid, visible, num = (5, 7), 10, 4000
    keys = jax.random.split(jax.random.key(0), num)
    sample = jax.jit(jax.vmap(lambda key: masking.random(key, grid, num_visible=visible).hidden()))
    share = np.asarray(sample(keys)).mean(0).reshape(grid)
    expected = 25 / 35
    deviation = np.sqrt(expected * (1 - expected) / num)
    assert np.abs(share - expected).max() < 4 * deviation
    assert np.abs(share[[0, 0, -1, -1], [0, -1, 0, -1]] - expected).max() < 3 * deviation


def test_neighbours_are_hidden_independently():
    keys = jax.random.split(jax.random.key(1), 4000)
    sample = jax.jit(jax.vmap(lambda key: masking.random(key, (4, 4), num_visible=4).hidden()))
    both = np.asarray(sample(keys)).astype(float)
    pairs = both.T @ both / len(both)
    expected = 12 / 16 * 11 / 15
    assert np.abs(pairs[~np.eye(16, dtype=bool)] - expected).max() < 5 * np.sqrt(0.25 / 4000)


@pytest.mark.parametrize(
    ("num", "ratio", "visible"),
    [
        (25, 0.6, 10),
        (196, 0.75, 49),
        (256, 0.75, 64),
        (16, 0.0, 16),
        (3, 0.5, 1),
        (100, 0.9, 9),  # 100 * (1 - 0.9) is 9.999999999999998 in double precision
        (10, 0.3, 7),
    ],
)
def test_counts_truncate_in_double_precision(num, ratio, visible):
    assert masking.count_visible(num, ratio) == visible


@pytest.mark.parametrize("ratio", [1.0, 1.5, -0.1, float("nan")])
def test_a_ratio_outside_its_range(ratio):
    with pytest.raises(ValueError, match=r"hidden share, in \[0, 1\); got"):
        masking.count_visible(16, ratio)


def test_a_ratio_that_leaves_nothing_visible():
    with pytest.raises(ValueError, match="leaves none of 16 tokens visible"):
        masking.count_visible(16, 0.95)


@pytest.mark.parametrize("visible", [-1, 10])
def test_a_count_outside_the_grid(visible):
    hidden = jnp.zeros(9, bool)
    for call in (
        lambda: masking.random(jax.random.key(0), (3, 3), num_visible=visible),
        lambda: masking.from_scores(jnp.zeros(9), num_visible=visible),
        lambda: masking.from_hidden(hidden, num_visible=visible),
    ):
        with pytest.raises(ValueError, match="within 9 tokens"):
            call()


def test_wrong_arguments():
    with pytest.raises(ValueError, match="'noise' or 'raster', got 'column'"):
        masking.random(jax.random.key(0), 4, num_visible=2, order="column")
    with pytest.raises(AssertionError):
        masking.random(jnp.zeros(8), (3, 3), num_visible=2)
    with pytest.raises(AssertionError):
        masking.from_hidden(jnp.zeros(4), num_visible=2)
