"""Every spatial and video generator: the properties that all share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hlo import collectives
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from table_spatial import PLAIN, ROWS

from maskjax.masking import TokenSet, TokenSplit
from maskjax.masking.blocks import block
from maskjax.masking.cells import coarse
from maskjax.masking.center import center_out
from maskjax.masking.grid_cells import grid
from maskjax.masking.holes import box, irregular
from maskjax.masking.multi_blocks import multiblock
from maskjax.masking.regions import hide_regions, region

KEYS = jax.random.split(jax.random.key(7), 2000)


@functools.cache
def values(name):
    """What a generator returns for KEYS, as NumPy arrays."""
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(ROWS[name].sample))(KEYS))


@functools.cache
def marks(name):
    return np.asarray(ROWS[name].marked(jax.tree.map(jnp.asarray, values(name))))


def first(name, num):
    return jax.tree.map(lambda x: x[:num], values(name))


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("name", ROWS)
def test_the_count_is_exact_every_time(name):
    counts = marks(name).reshape(len(KEYS), -1).sum(1)
    if ROWS[name].count is not None:
        assert set(counts.tolist()) == {ROWS[name].count}
    else:
        assert counts.min() > 0


@pytest.mark.parametrize("name", ROWS)
def test_splits_are_permutations_and_sets_are_well_formed(name):
    value = first(name, 200)
    if isinstance(value, TokenSplit):
        assert value.ids.dtype == np.int32
        for ids in value.ids:
            np.testing.assert_array_equal(np.sort(ids), np.arange(len(ids)))
    for tokens in jax.tree.leaves(value, is_leaf=lambda x: isinstance(x, TokenSet)):
        if not isinstance(tokens, TokenSet):
            continue
        ids, valid = (x.reshape(-1, x.shape[-1]) for x in (tokens.ids, tokens.valid))
        assert ids.dtype == np.int32 and ids.min() >= 0
        assert (valid[:, :-1] >= valid[:, 1:]).all(), "valid ids come first"
        assert all(len(set(i[v])) == v.sum() for i, v in zip(ids, valid, strict=True)), "distinct"


@pytest.mark.parametrize("name", ROWS)
def test_every_place_is_marked(name):
    """Corners and edges included; equally often where the law says so."""
    share = marks(name).mean(0)
    assert share.min() > 0 and (share.max() < 1 or ROWS[name].count is None)
    if ROWS[name].even:
        expected = ROWS[name].count / share.size
        deviation = np.sqrt(expected * (1 - expected) / len(KEYS))
        assert np.abs(share - expected).max() < 5 * deviation


@pytest.mark.parametrize("name", ROWS)
def test_the_key_decides(name):
    assert len(np.unique(marks(name)[:64].reshape(64, -1), axis=0)) > 1


@pytest.mark.parametrize("name", PLAIN)
def test_eager_and_jit_agree_with_vmap(name):
    sample = ROWS[name].sample
    equal(sample(KEYS[3]), jax.tree.map(lambda x: x[3], values(name)))
    equal(jax.jit(sample)(KEYS[5]), jax.tree.map(lambda x: x[5], values(name)))


@pytest.mark.parametrize("name", ROWS)
def test_sharded_agrees_and_nothing_is_sent(name):
    sample, expected = ROWS[name].sample, first(name, 16)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    keys = jax.device_put(KEYS[:16], rows)
    compiled = jax.jit(jax.vmap(sample), out_shardings=rows).lower(keys).compile()
    assert collectives(compiled.as_text()) == {}
    equal(compiled(keys), expected)
    # The other examples of the batch, and their order, do not matter.
    backwards = jax.tree.map(lambda x: x[::-1], compiled(jax.device_put(KEYS[15::-1], rows)))
    equal(backwards, expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda k: block(k, (4, 4), num_visible=17), "num_visible must be in 0..16, got 17"),
        (lambda k: block(k, (1, 9), num_visible=4), "at least 2 x 2 tokens"),
        (lambda k: block(k, (4, 4), num_visible=4, law="mae"), "'beit' or 'cae'"),
        (lambda k: block(k, (4, 4), num_visible=4, min_block=0), "min_block <= max_block"),
        (lambda k: block(k, (4, 4), num_visible=4, max_block=3), "min_block <= max_block"),
        (lambda k: block(k, (4, 4), num_visible=4, min_aspect=2), "min_aspect must be in"),
        (lambda k: grid(k, (5, 4), num_visible=5), "does not divide the grid"),
        (lambda k: grid(k, (4, 4), num_visible=5), "multiple of the 4 cells"),
        (lambda k: coarse(k, (4, 4), num_visible=4, cell=5), "at most the grid"),
        (lambda k: coarse(k, (4, 4), num_visible=4, cell=0.5), "at least 1 token"),
        (lambda k: coarse(k, (4, 4), num_visible=17, cell=2), "within 16 tokens"),
        (lambda k: center_out(k, (4, 4), num_visible=4, hide="top"), "'centre' or 'border'"),
        (lambda k: center_out(k, (4, 4), num_visible=4, max_shift=1), "max_shift"),
        (lambda k: box(k, (4, 4), area=(0.5, 0.1)), "area is a share"),
        (lambda k: box(k, (4, 4), num_boxes=0), "at least one box"),
        (lambda k: irregular(k, (4, 4), area=1.5), "area is a share"),
        (lambda k: irregular(k, (4, 4), num_strokes=(3, 2)), "ranges must be ascending"),
        (lambda k: multiblock(k, (3, 3)), "lower min_context or target_scale"),
        (lambda k: multiblock(k, (14, 14), max_context=5), "raise max_context"),
        (lambda k: multiblock(k, (14, 14), target_scale=(0.0, 0.2)), "lowest first"),
        (lambda k: multiblock(k, (14, 14), num_targets=0), "at least one target"),
        (lambda k: region(jnp.zeros((2, 4), bool), max_tokens=5), "max_tokens"),
        (lambda k: hide_regions(k, jnp.zeros(4, int), num_visible=5, num_regions=1), "4 tokens"),
    ],
)
def test_infeasible_requests_raise_when_they_are_built(call, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(call, jax.random.key(0))
