"""The laws of every generator of table_guided, and the guided ones against their definitions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hlo import collectives
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from table_guided import GENERATORS, NUM, VISIBLE, infeasible

from maskjax.masking import TokenSplit, guided

SETTINGS = settings(max_examples=20, deadline=None, derandomize=True)
EXAMPLES = 2400
names = pytest.mark.parametrize("name", GENERATORS)
seeds = st.integers(0, 2**31)


@functools.cache
def compiled(name):
    return jax.jit(GENERATORS[name].draw)


@functools.cache
def drawn_on_8_devices(name):
    """(keys, what is drawn, the program), for all examples that coverage needs."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    keys = jax.device_put(jax.random.split(jax.random.key(0), EXAMPLES), rows)
    fn = jax.jit(jax.vmap(GENERATORS[name].draw), in_shardings=rows, out_shardings=rows)
    program = fn.lower(keys).compile()
    return keys, program(keys), program


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(leaves(a), leaves(b), strict=True))


@names
@SETTINGS
@given(seed=seeds)
def test_the_count_is_exact_and_ids_are_a_permutation(name, seed):
    drawn = compiled(name)(jax.random.key(seed))
    hidden = np.asarray(GENERATORS[name].hidden(drawn))
    assert hidden.shape == (NUM,) and hidden.dtype == bool
    assert abs(hidden.sum() - GENERATORS[name].num_hidden) <= (name == "groups mix")
    if isinstance(drawn, TokenSplit):
        assert drawn.ids.dtype == np.int32
        np.testing.assert_array_equal(np.sort(drawn.ids), np.arange(NUM))
        assert drawn.num_visible == VISIBLE


@names
def test_eager_jitted_and_batched_on_8_devices_agree(name):
    keys, together, _ = drawn_on_8_devices(name)
    for i in (0, EXAMPLES - 1):
        key = jax.device_put(keys[i], jax.devices()[0])
        one = jax.tree.map(lambda leaf: leaf[i], together)  # noqa: B023
        assert same(compiled(name)(key), one)
    assert same(GENERATORS[name].draw(key), one)


@names
def test_nothing_is_sent_between_devices(name):
    assert collectives(drawn_on_8_devices(name)[2].as_text()) == {}


@names
def test_a_key_decides_and_no_neighbour_does(name):
    keys, together, program = drawn_on_8_devices(name)
    assert same(program(keys), together)
    shuffled = np.random.default_rng(0).permutation(EXAMPLES)
    others = program(jax.device_put(keys[shuffled], keys.sharding))
    assert same(others, jax.tree.map(lambda leaf: np.asarray(leaf)[shuffled], together))
    rows = np.concatenate([leaf[:8].reshape(8, -1) for leaf in leaves(together)], 1)
    assert len(np.unique(rows, axis=0)) == 8


@names
def test_every_position_is_hidden_equally_often(name):
    generator = GENERATORS[name]
    drawn = jax.tree.map(np.asarray, drawn_on_8_devices(name)[1])
    hidden = np.asarray(jax.vmap(generator.hidden)(drawn))
    mean = hidden.mean()
    deviation = np.sqrt(mean * (1 - mean) / EXAMPLES)
    assert np.abs(hidden.mean(0) - mean).max() < 4.5 * deviation + generator.slack


@pytest.mark.parametrize("what", infeasible())
def test_infeasible_requests_raise_while_tracing(what):
    call, message = infeasible()[what]
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(call)


@SETTINGS
@given(seeds, st.sampled_from(["visible", "hidden"]))
def test_sampled_is_a_draw_one_after_the_other(seed, favour):
    """The order of Exp(1) / weight; by definition of the exponential race also Gumbel top-k."""
    rng = np.random.default_rng(seed)
    weights, noise = rng.uniform(0.1, 1, NUM), rng.exponential(size=NUM)
    args = jnp.asarray(noise, jnp.float32), jnp.asarray(weights, jnp.float32)
    split = guided.sampled(*args, num_visible=VISIBLE, favour=favour)
    order = np.argsort(noise / weights)
    np.testing.assert_array_equal(split.ids, order if favour == "visible" else order[::-1])
    gumbel = np.log(weights) - np.log(noise)
    np.testing.assert_array_equal(np.argsort(-gumbel), order)
    scaled = guided.sampled(args[0], args[1] * 4, num_visible=VISIBLE, favour=favour)
    np.testing.assert_array_equal(scaled.ids, split.ids)


def test_sampled_frequencies_are_those_of_a_draw_without_replacement():
    weights = np.array([4.0, 2.0, 1.0, 1.0])
    keys = jax.random.split(jax.random.key(0), 20000)
    draw = lambda key: guided.sampled(key, jnp.asarray(weights), num_visible=2).ids  # noqa: E731
    ids = np.asarray(jax.jit(jax.vmap(draw))(keys))
    for first in range(4):
        for second in set(range(4)) - {first}:
            chance = weights[first] / 8 * weights[second] / (8 - weights[first])
            found = np.mean((ids[:, 0] == first) & (ids[:, 1] == second))
            assert abs(found - chance) < 4.5 * np.sqrt(chance / 20000)


def test_tokens_of_no_weight_come_last_and_at_random():
    weights = jnp.array([0, 0, 3e-8, 0, 1e-8, 0, 0, 0])
    keys = jax.random.split(jax.random.key(0), 2000)
    draw = lambda key: guided.sampled(key, weights, num_visible=4).ids  # noqa: E731
    ids = np.asarray(jax.jit(jax.vmap(draw))(keys))
    assert set(ids[:, :2].ravel()) == {2, 4}
    third = np.bincount(ids[:, 2], minlength=8) / 2000
    np.testing.assert_allclose(third[[0, 1, 3, 5, 6, 7]], 1 / 6, atol=0.04)
    nothing = jax.jit(jax.vmap(lambda k: guided.sampled(k, jnp.zeros(8), num_visible=4).ids))
    assert np.bincount(np.asarray(nothing(keys))[:, 0], minlength=8).min() > 180


def test_ranked_shows_or_hides_the_highest():
    scores = jnp.array([0.3, 0.9, 0.1, 0.9, 0.5])
    assert guided.ranked(scores, num_visible=2).ids.tolist() == [1, 3, 4, 0, 2]
    assert guided.ranked(scores, num_visible=2, favour="hidden").ids.tolist() == [2, 0, 4, 1, 3]
    integers = jnp.array([3, 200, 7], jnp.uint8)
    assert guided.ranked(integers, num_visible=1).ids.tolist() == [1, 2, 0]


@SETTINGS
@given(seeds, st.integers(0, NUM - VISIBLE))
def test_easy_to_hard_hides_the_hardest_and_draws_the_rest(seed, num_hard):
    rng = np.random.default_rng(seed)
    difficulty = jnp.asarray(rng.normal(size=NUM), jnp.float32)
    noise = jnp.asarray(rng.uniform(size=NUM), jnp.float32)
    split = _traced(noise, difficulty, jnp.int32(num_hard))
    order = np.argsort(np.asarray(difficulty), kind="stable")
    hard, rest = order[NUM - num_hard :], order[: NUM - num_hard]
    assert set(hard) <= set(np.asarray(split.hidden_ids).tolist())
    by_noise = rest[np.argsort(np.asarray(noise)[rest], kind="stable")]
    np.testing.assert_array_equal(split.ids[: NUM - num_hard], by_noise)


_traced = jax.jit(
    lambda *args: guided.easy_to_hard(*args[:2], num_visible=VISIBLE, num_hard=args[2])
)


def test_epochs_do_not_compile_again_and_extremes_are_clipped():
    before = _traced._cache_size()
    noise = jax.random.uniform(jax.random.key(0), (2, NUM))
    counts = jnp.asarray(guided.hard_counts(200, NUM - VISIBLE))
    for epoch in range(0, 200, 40):
        _traced(*noise, counts[epoch])
    assert _traced._cache_size() <= max(before, 1)
    for number, clipped in ((-3, 0), (NUM, NUM - VISIBLE)):
        assert same(_traced(*noise, jnp.int32(number)), _traced(*noise, jnp.int32(clipped)))
    both = _traced(noise, noise[::-1], jnp.array([0, 9]))
    assert same(jax.tree.map(lambda x: x[1], both), _traced(noise[1], noise[0], jnp.int32(9)))


@pytest.mark.parametrize(("epochs", "hidden"), [(200, 147), (800, 147), (200, 12), (7, 50)])
def test_hard_counts_are_the_official_double_precision_ones(epochs, hidden):
    counts = guided.hard_counts(epochs, hidden)
    official = [int(hidden * (0.5 * (epoch + 1) / epochs)) for epoch in range(epochs)]
    np.testing.assert_array_equal(counts, official)
    assert counts[-1] == hidden // 2 and counts.dtype == np.int32
    flat = guided.hard_counts(3, 10, start=1.0, end=1.0)
    np.testing.assert_array_equal(flat, [10, 10, 10])


def test_class_attention_is_the_mean_over_heads():
    attention = np.random.default_rng(0).uniform(size=(2, 3, 6, 6)).astype(np.float32)
    expected = attention[:, :, 0, 2:].mean(1)
    np.testing.assert_allclose(guided.cls_attention(attention, num_prefix=2), expected, rtol=1e-6)
