"""Masks in NumPy follow the laws of the JAX ones."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax import masking
from maskjax.masking import holes, host, multi_blocks
from maskjax.masking.blocks import block
from maskjax.masking.cells import coarse
from maskjax.masking.video import running_cell, tube


def on_weights(sampled):
    """Token i weighs i: (rng or key, grid, ...) -> split."""
    return lambda source, grid, **options: sampled(source, np.arange(np.prod(grid)), **options)


SETTINGS = settings(max_examples=20, deadline=None, derandomize=True)
CASES = {
    "random": (host.random, masking.random, ((5, 6),), {"num_visible": 9}),
    "random, one axis": (host.random, masking.random, (12,), {"num_visible": 0}),
    "tube": (host.tube, tube, ((3, 4, 5),), {"num_visible": 15}),
    "grid": (host.grid, masking.grid, ((4, 6),), {"num_visible": 8, "cell": (2, 3)}),
    "running cell": (
        host.running_cell,
        running_cell,
        ((5, 4, 4),),
        {"num_visible": 20},
    ),
    "sampled": (
        on_weights(host.sampled),
        on_weights(masking.sampled),
        ((5, 6),),
        {"num_visible": 9},
    ),
    "sampled, hidden": (
        on_weights(host.sampled),
        on_weights(masking.sampled),
        ((4, 4),),
        {"num_visible": 5, "favour": "hidden"},
    ),
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


@pytest.mark.parametrize("name", [name for name in CASES if name != "random, one axis"])
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


def replayed(shapes, seed):
    """The noise that a host function draws."""
    rng = np.random.default_rng(seed)
    return [rng.random(shape, np.float32) for shape in shapes]


@SETTINGS
@given(st.integers(0, 2**31))
def test_areas_are_those_of_the_device_for_the_same_noise(seed):
    rng = lambda: np.random.default_rng(seed)  # noqa: E731
    on_device = _areas_on_device(
        multi_blocks.MultiblockNoise(*replayed(((8, 5, 4), (80,)), seed)),
        *replayed(((2, 4),), seed),
        holes.StrokeNoise(*replayed(holes.stroke_shapes((1, 3), 4), seed)),
    )
    here = (
        host.multiblock(rng(), (8, 10)),
        host.box(rng(), (9, 14), num_boxes=2),
        host.irregular(rng(), (12, 16), num_strokes=(1, 3), num_turns=4),
    )
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(here))
    jax.tree.map(np.testing.assert_array_equal, here, on_device)


@jax.jit
def _areas_on_device(blocks, box_noise, strokes):
    return (
        masking.multiblock(blocks, (8, 10)),
        masking.box(box_noise, (9, 14), num_boxes=2),
        masking.irregular(strokes, (12, 16), num_strokes=(1, 3), num_turns=4),
    )


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
        (lambda r: host.grid(r, (4, 4), num_visible=5), "multiple of the 4 cells"),
        (lambda r: host.running_cell(r, (2, 3, 4), num_visible=12), "does not divide 3 x 4"),
        (lambda r: host.sampled(r, np.ones(4), num_visible=2, favour="x"), "'visible' or 'hidden'"),
        (lambda r: host.multiblock(r, (3, 3)), "lower min_context or target_scale"),
        (lambda r: host.box(r, (4, 4), num_boxes=0), "at least one box"),
        (lambda r: host.irregular(r, (4, 4), area=1.5), "area is a share"),
        (lambda r: host.irregular(r, (4, 4), num_turns=0), "from at least 1 stroke and turn"),
        (lambda r: host.block(r, (1, 9), num_visible=4), "at least 2 x 2"),
        (lambda r: host.block(r, (4, 4), num_visible=4, law="other"), "'beit' or 'cae'"),
    ],
)
def test_infeasible_requests_raise(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.random.default_rng(0))
