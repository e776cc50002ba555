"""What every generator promises, for any grid and count that hypothesis thinks of."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_counts import LAWS

from maskjax.masking import TokenSplit, multiblock

BATCH = 8
names = pytest.mark.parametrize("name", LAWS)
# Compiled for each size: few. Traced only: any.
FEW = st.sampled_from([(2, 4), (6, 4)])
ANY = st.tuples(st.integers(1, 5), st.integers(1, 6)).map(lambda half: (2 * half[0], 2 * half[1]))
seeds = st.integers(0, 2**31 - 1)


@functools.cache
def compiled(name, grid, count):
    """Keys -> (what the generator returns, hidden), both batched."""
    law = LAWS[name]

    def one(key):
        value = law.draw(key, grid, count)
        return value, law.hidden(value)

    return jax.jit(jax.vmap(one))


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@names
@settings(max_examples=4, deadline=None, derandomize=True)
@given(data=st.data())
def test_counts_are_exact_and_only_the_key_decides(name, data):
    law, grid, seed = LAWS[name], data.draw(FEW), data.draw(seeds)
    counts = law.counts(grid)
    count = data.draw(st.sampled_from([counts[0], counts[len(counts) // 2], counts[-1]]))
    run, keys = compiled(name, grid, count), jax.random.split(jax.random.key(seed), BATCH)
    value, hidden = run(keys)
    assert hidden.shape == (BATCH, law.tokens(grid)) and hidden.dtype == bool
    assert set(hidden.sum(1).tolist()) == {law.tokens(grid) - count}
    if isinstance(value, TokenSplit):
        assert value.ids.dtype == np.int32 and value.num_visible == count
        ordered = np.broadcast_to(np.arange(law.tokens(grid)), value.ids.shape)
        np.testing.assert_array_equal(np.sort(value.ids, -1), ordered)
        shown = np.take_along_axis(np.asarray(hidden), np.asarray(value.visible_ids), -1)
        assert not shown.any()
    # The same key gives the same mask, whatever else is in the batch and in which order.
    same(run(keys), (value, hidden))
    order = np.asarray(data.draw(st.permutations(range(BATCH))))
    same(run(keys[order]), jax.tree.map(lambda x: x[order], (value, hidden)))
    others = jax.random.split(jax.random.key(seed + 1), BATCH).at[3].set(keys[3])
    same(*(jax.tree.map(lambda x: x[3], found) for found in (run(others), (value, hidden))))


@names
@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_every_request_is_met_or_refused_while_tracing(name, data):
    """Shapes are known without running; what cannot be met names what is wrong."""
    law, grid = LAWS[name], data.draw(ANY)
    total, feasible = law.tokens(grid), law.counts(grid)
    wanted = st.sampled_from(feasible)
    count = data.draw(wanted if law.says is None else wanted | st.integers(-3, total + 3))
    shape_of = lambda: jax.eval_shape(lambda key: law.draw(key, grid, count), jax.random.key(0))  # noqa: E731
    if count not in feasible:
        with pytest.raises(ValueError) as error:
            shape_of()
        assert law.says(count, total - count) in str(error.value)
        return
    value = shape_of()
    if isinstance(value, TokenSplit):
        assert value.ids.shape == (total,)
        assert value.num_visible == count and value.num_hidden == total - count


@settings(max_examples=6, deadline=None, derandomize=True)
@given(st.sampled_from([1, 4]), seeds)
def test_context_and_targets(num_targets, seed):
    """Disjoint, never empty, the sizes that the scales allow, for every key."""
    context, targets = blocks(num_targets)(jax.random.split(jax.random.key(seed), BATCH))
    num = 24
    inside, aimed = context.members(num), targets.members(num).any(1)
    assert not (inside & aimed).any()
    assert (context.count() >= 3).all() and (targets.count() >= 1).all()
    assert targets.ids.shape[1] == num_targets
    assert (inside.sum(1) == context.count()).all(), "distinct ids"


@functools.cache
def blocks(num_targets):
    options = {"num_targets": num_targets, "min_context": 3, "num_tries": 3}
    return jax.jit(jax.vmap(lambda key: multiblock(key, (4, 6), **options)))


# Loops, look-ups, sorts, products: what a device could be told apart by.
@pytest.mark.parametrize(
    "name",
    ["block, BEiT", "irregular", "colored, red", "colored_from_bank", "dirichlet", "progressive"],
)
def test_inside_shard_map(name):
    law, grid = LAWS[name], (4, 6)
    counts = law.counts(grid)
    count = counts[len(counts) // 2]
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.PartitionSpec("data")
    many = jax.vmap(lambda key: law.hidden(law.draw(key, grid, count)))
    keys = jax.random.split(jax.random.key(0), BATCH)
    found = jax.jit(jax.shard_map(many, mesh=mesh, in_specs=rows, out_specs=rows))(keys)
    np.testing.assert_array_equal(found, jax.jit(many)(keys))
