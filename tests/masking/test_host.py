"""Masks in NumPy follow the laws of the JAX ones."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax import masking
from maskjax.masking import host
from maskjax.masking.blocks import block
from maskjax.masking.cells import coarse
from maskjax.masking.video import tube

SETTINGS = settings(max_examples=20, deadline=None, derandomize=True)
CASES = {
    "random": (host.random, masking.random, ((5, 6),), {"num_visible": 9}),
    "random, one axis": (host.random, masking.random, (12,), {"num_visible": 0}),
    "tube": (host.tube, tube, ((3, 4, 5),), {"num_visible": 15}),
    "coarse": (host.coarse, coarse, ((6, 6),), {"num_visible": 17, "cell": 2}),
    "block beit": (host.block, block, ((8, 8),), {"num_visible": 30, "min_block": 4}),
    "block cae": (
        host.block,
        block,
        ((7, 9),),
        {"num_visible": 31, "min_block": 4, "max_block": 16, "law": "cae"},
    ),
}


@pytest.mark.parametrize("name", CASES)
@SETTINGS
@given(st.integers(0, 2**31))
def test_counts_are_exact_and_seeds_decide(name, seed):
    on_host, _, args, options = CASES[name]
    split = on_host(np.random.default_rng(seed), *args, **options)
    num = int(np.prod(args[0]))
    assert split.ids.dtype == np.int32 and split.hidden.dtype == bool
    np.testing.assert_array_equal(np.sort(split.ids), np.arange(num))
    assert split.num_visible == options["num_visible"] == (~split.hidden).sum()
    assert not split.hidden[split.visible_ids].any() and split.hidden[split.hidden_ids].all()
    again = on_host(np.random.default_rng(seed), *args, **options)
    np.testing.assert_array_equal(split.ids, again.ids)
    if split.num_visible > 0:
        others = [on_host(np.random.default_rng(seed + i), *args, **options) for i in range(1, 9)]
        assert any((other.hidden != split.hidden).any() for other in others)


@pytest.mark.parametrize("name", ["random", "tube", "coarse", "block beit", "block cae"])
def test_the_law_is_that_of_the_device(name):
    """How often each token is hidden, and how often it is together with its neighbour."""
    on_host, on_device, args, options = CASES[name]
    num = 2000
    rng = np.random.default_rng(0)
    here = np.stack([on_host(rng, *args, **options).hidden for _ in range(num)])
    sample = functools.partial(on_device, **options)
    keys = jax.random.split(jax.random.key(0), num)
    there = np.asarray(jax.jit(jax.vmap(lambda key: sample(key, *args).hidden()))(keys))
    # Six standard deviations of the difference of two shares.
    bound = 6 * np.sqrt(0.5 / num)
    assert np.abs(here.mean(0) - there.mean(0)).max() < bound
    pairs = [(x[:, 1:] & x[:, :-1]).mean(0) for x in (here, there)]
    assert np.abs(pairs[0] - pairs[1]).max() < bound


def test_a_host_split_becomes_one_of_jax():
    made = host.random(np.random.default_rng(0), (3, 4), num_visible=5)
    split = masking.TokenSplit(made.ids, (made.num_visible,))
    np.testing.assert_array_equal(split.hidden(), made.hidden)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: host.random(r, 9, num_visible=10), "0..9"),
        (lambda r: host.tube(r, (2, 3, 3), num_visible=9), "take a multiple of 2, up to 18"),
        (lambda r: host.coarse(r, (4, 4), num_visible=4, cell=9), "at most the grid"),
        (lambda r: host.block(r, (1, 9), num_visible=4), "at least 2 x 2"),
        (lambda r: host.block(r, (4, 4), num_visible=4, law="other"), "'beit' or 'cae'"),
    ],
)
def test_infeasible_requests_raise(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.random.default_rng(0))
