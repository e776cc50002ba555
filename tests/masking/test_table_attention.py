"""What holds for every case of table_attention: eager = jit = sharded, example by example."""

import jax
import numpy as np
import pytest
from hlo import collectives
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from table_attention import BATCH, CASES, make_inputs

INPUTS = make_inputs()


@pytest.fixture(scope="module")
def rows():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec("data"))


def close(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", CASES)
def test_eager_jit_and_every_example_alone_agree(name):
    names, fn = CASES[name]
    given, jitted = [INPUTS[n] for n in names], jax.jit(fn)
    whole = jitted(*given)
    close(fn(*given), whole)
    order = np.random.default_rng(0).permutation(BATCH)
    close(jitted(*(x[order] for x in given)), jax.tree.map(lambda y: y[order], whole))
    # Alone, but for copies of itself: nothing of the rest of the batch is left.
    for i in (0, 1, 5):
        alone = jitted(*(np.repeat(x[i : i + 1], BATCH, 0) for x in given))
        close(alone, jax.tree.map(lambda y: np.repeat(y[i : i + 1], BATCH, 0), whole))  # noqa: B023


@pytest.mark.parametrize("name", CASES)
def test_stays_on_the_device_and_gives_the_same_numbers(name, rows):
    names, fn = CASES[name]
    sharded = [jax.device_put(INPUTS[n], rows) for n in names]
    compiled = jax.jit(fn, out_shardings=rows).lower(*sharded).compile()
    assert collectives(compiled.as_text()) == {}
    close(compiled(*sharded), jax.jit(fn)(*(INPUTS[n] for n in names)))
