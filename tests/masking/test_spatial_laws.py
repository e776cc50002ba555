"""What is special to each spatial generator: its law, replayed and measured."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax.masking.blocks import BlockNoise, block
from maskjax.masking.cells import cell_of_tokens, coarse, coarse_visible
from maskjax.masking.center import center_out
from maskjax.masking.grid_cells import grid
from maskjax.masking.holes import StrokeNoise, box, irregular, smallest
from maskjax.masking.multi_blocks import MultiblockNoise, multiblock
from maskjax.masking.regions import box_shares, hide_regions, region, segment_shares

SETTINGS = settings(max_examples=20, deadline=None, derandomize=True)

# block


def replay_block(tries, size, num_hidden, min_block, min_aspect):
    """CAE's law, written as its sheet tells it, with given random numbers."""
    hidden, log = np.zeros(size, bool), np.log(min_aspect)
    for u in np.asarray(tries, np.float64):
        cap = num_hidden - hidden.sum()
        if cap == 0:
            return hidden
        area, aspect = min_block + u[0] * (cap - min_block), np.exp(log * (1 - 2 * u[1]))
        h, w = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
        if h >= size[0] or w >= size[1]:
            continue
        top, left = int(u[2] * (size[0] - h + 1)), int(u[3] * (size[1] - w + 1))
        trial = hidden.copy()
        trial[top : top + h, left : left + w] = True
        if 0 < trial.sum() - hidden.sum() <= cap:
            hidden = trial
    return None


@SETTINGS
@given(st.integers(0, 2**31))
def test_block_follows_the_law_of_cae(seed):
    rng = np.random.default_rng(seed)
    noise = BlockNoise(rng.random((192, 4), np.float32), rng.random(196, np.float32))
    hidden = replay_block(noise.tries, (14, 14), 98, 16, 0.3)
    if hidden is None:
        return
    split = jax.jit(lambda n: block(n, (14, 14), num_visible=98, law="cae"))(noise)
    np.testing.assert_array_equal(split.hidden().reshape(14, 14), hidden)


def test_beit_gives_up_after_ten_failures_and_fills_up_next_to_the_blocks():
    tries = np.full((40, 4), 0.5, np.float32)  # after the first, the same rectangle: nothing new
    noise = BlockNoise(tries, np.linspace(0, 0.9, 64, dtype=np.float32))
    hidden = block(noise, (8, 8), num_visible=40, min_block=4).hidden().reshape(8, 8)
    first = np.zeros((8, 8), bool)
    first[2:6, 2:6] = True  # sqrt(14) = 3.7 -> 4 x 4, in the middle
    assert hidden[first].all() and hidden.sum() == 24
    touching = np.asarray(block(noise, (8, 8), num_visible=47, min_block=4).hidden())
    assert touching.sum() == 17


def test_nearly_all_masks_of_cae_end_in_time():
    """Else they are filled up, which single tokens at the border would betray."""
    keys = jax.random.split(jax.random.key(2), 400)
    tries = jax.vmap(lambda key: jax.random.uniform(key, (192, 4)))(keys)
    ended = [replay_block(t, (14, 14), 98, 16, 0.3) is not None for t in np.asarray(tries)]
    assert np.mean(ended) > 0.99


# grid, coarse


def test_grid_keeps_the_same_place_of_every_cell():
    split = grid(jnp.asarray([0.3, 0.1, 0.2, 0.9]), (4, 4), num_visible=4)
    assert split.visible_ids.tolist() == [1, 3, 9, 11]
    everything = grid(jax.random.key(0), (4, 4), num_visible=16)
    assert everything.num_hidden == 0


def test_coarse_hides_whole_cells():
    split = coarse(jnp.asarray([0.5, 0.1, 0.9, 0.2]), (4, 6), num_visible=12, cell=(2, 3))
    hidden = np.asarray(split.hidden()).reshape(4, 6)
    np.testing.assert_array_equal(hidden[::2, ::3], [[1, 0], [1, 0]])
    np.testing.assert_array_equal(hidden, np.kron(hidden[::2, ::3], np.ones((2, 3), bool)))


def test_both_ways_of_coarse_agree():
    """Sorting cells is sorting tokens by the noise of their cells."""
    noise = jax.random.uniform(jax.random.key(1), (12,))
    owner, _ = cell_of_tokens((6, 8), 2)
    split = coarse(noise, (6, 8), num_visible=20, cell=2)
    np.testing.assert_array_equal(split.ids, np.argsort(noise[owner], kind="stable"))


@pytest.mark.parametrize(
    ("size", "cell", "ratio", "visible"),
    [
        ((48, 48), 8, 0.6, 14 * 64),  # SimMIM: 192 pixels, patches of 4: 22 of 36 cells hidden
        ((14, 14), 2, 0.6, 19 * 4),  # 224 pixels, patches of 16: 30 of 49
        ((7, 7), 1, 0.5, 24),
        ((16, 16), 32 / 14, 0.6, 99),  # 30 of 49 cells, 19 / 49 of 256 tokens visible
    ],
)
def test_the_count_of_simmim(size, cell, ratio, visible):
    assert coarse_visible(size, cell, ratio) == visible


def test_cells_of_32_pixels_on_patches_of_14():
    owner, num = cell_of_tokens((16, 16), 32 / 14)
    assert num == 49
    assert owner.reshape(16, 16)[0].tolist() == [i * 14 // 32 for i in np.arange(16) + 0.5]


# centre, holes


def test_centre_and_border():
    inside = center_out(jax.random.key(0), (6, 6), num_visible=32).hidden().reshape(6, 6)
    assert inside[2:4, 2:4].all() and inside.sum() == 4
    outside = center_out(jax.random.key(0), (6, 6), num_visible=16, hide="border").hidden()
    expected = np.ones((6, 6), bool)
    expected[1:5, 1:5] = False
    np.testing.assert_array_equal(outside.reshape(6, 6), expected)


@SETTINGS
@given(st.integers(0, 2**31), st.sampled_from([0.01, 0.2, 0.5, 1.0]))
def test_a_box_has_its_area(seed, area):
    hole = np.asarray(box(jax.random.key(seed), (9, 14), area=area, aspect=(0.1, 10.0)))
    rows, columns = hole.any(1).sum(), hole.any(0).sum()
    assert hole.sum() == rows * columns, "one rectangle"
    assert abs(hole.sum() - area * 126) <= rows / 2 + 1e-3


def test_a_centred_box():
    hole = np.asarray(box(jax.random.key(0), (8, 8), area=0.25, aspect=(1, 1), centred=True))
    assert hole[2:6, 2:6].all() and hole.sum() == 16


def test_strokes_have_exactly_the_drawn_area():
    noise = StrokeNoise(
        jnp.float32(0.5), jnp.float32(0.0), jnp.full((4, 4), 0.4), jnp.full((4, 3, 2), 0.7)
    )

    @functools.partial(jax.jit, static_argnames="area")
    def draw(area):
        return irregular(noise, (20, 30), area=area, num_strokes=(1, 4), num_turns=3)

    hole = draw((0.1, 0.3))
    assert hole.sum() == 120
    for area, count in ((0.0, 0), (1.0, 600), (1 / 600, 1)):
        assert draw(area).sum() == count
    # Strokes grow: a larger hole contains the smaller one.
    assert (draw(0.4) | ~hole).all()


@SETTINGS
@given(st.lists(st.sampled_from([0.0, 1e-30, 0.5, 0.7, 3e38]), min_size=1, max_size=30), st.data())
def test_smallest(values, data):
    count = data.draw(st.integers(0, len(values)))
    order = np.argsort(values, kind="stable")[:count]
    padded = np.concatenate([values, np.full(30 - len(values), 3.1e38)])
    marked = np.asarray(jax.jit(smallest)(jnp.asarray(padded, jnp.float32), jnp.asarray(count)))
    assert sorted(np.flatnonzero(marked)) == sorted(order)


# multiblock


def test_context_and_targets_do_not_overlap_and_have_their_sizes():
    sample = jax.jit(jax.vmap(lambda key: multiblock(key, (14, 14))))
    context, targets = sample(jax.random.split(jax.random.key(0), 500))
    assert targets.ids.shape == (500, 4, 42)
    inside = np.asarray(targets.members(196)).reshape(500, 4, 14, 14)
    assert not (np.asarray(context.members(196)) & inside.any(1).reshape(500, 196)).any()
    assert context.count().min() >= 10
    areas = np.asarray(targets.count())
    heights, widths = inside.any(-1).sum(-1), inside.any(-2).sum(-1)
    np.testing.assert_array_equal(areas, heights * widths)
    assert areas.min() >= 24 and areas.max() == 42 and 32 < areas.mean() < 36
    assert ((heights / widths) > 0.5).all() and ((heights / widths) < 2).all()
    assert len(np.unique(areas)) > 5, "each block has a size of its own"


def test_all_corners_are_target_and_context_and_the_centre_is_not_favoured_by_the_batch():
    sample = jax.jit(jax.vmap(lambda key: multiblock(key, (14, 14))))
    context, targets = sample(jax.random.split(jax.random.key(1), 4000))
    seen = np.asarray(context.members(196)).mean(0).reshape(14, 14)
    aimed = np.asarray(targets.members(196).any(1)).mean(0).reshape(14, 14)
    for share in (seen, aimed):
        corners = share[[0, 0, -1, -1], [0, -1, 0, -1]]
        assert corners.min() > 0.02
        # The law is the same at opposite ends: nothing of the last rows or columns is cut off.
        np.testing.assert_allclose(share, share[::-1], atol=0.06)
        np.testing.assert_allclose(share, share[:, ::-1], atol=0.06)


def test_when_every_try_leaves_too_little_all_targets_move_together():
    blocks = np.full((2, 5, 4), 0.5, np.float32)
    blocks[:, 1:, 2:] = [[0, 0], [0, 1], [1, 0], [1, 1]]  # targets in the four corners
    noise = MultiblockNoise(blocks, np.linspace(0, 1, 36, endpoint=False, dtype=np.float32))
    options = {"target_scale": (0.25, 0.25), "target_aspect": (1, 1), "context_scale": (1, 1)}
    sample = jax.jit(lambda noise: multiblock(noise, (6, 6), min_context=20, **options))
    context, targets = sample(noise)
    assert context.count() == 27
    first = [0, 1, 2, 6, 7, 8, 12, 13, 14]
    np.testing.assert_array_equal(targets.ids, [first] * 4)
    assert not set(first) & set(context.ids.tolist())


@pytest.mark.parametrize("size", [(2, 2), (3, 5), (4, 4), (8, 8), (1, 9)])
def test_small_grids_end(size):
    """No endless loop, whatever the grid (a known trouble of samplers that retry)."""
    sample = jax.jit(jax.vmap(lambda key: multiblock(key, size, min_context=1)))
    context, targets = sample(jax.random.split(jax.random.key(0), 64))
    assert context.count().min() >= 1 and targets.count().min() >= 1


# regions


def test_boxes_cover_shares_of_tokens():
    boxes = jnp.asarray([[0, 0, 8, 8], [2, 4, 4, 8], [-1, -1, -1, -1], [6, 6, 99, 99]])
    shares = np.asarray(box_shares(boxes, (2, 2), (4, 4)))
    expected = [[1, 1, 1, 1], [0, 0.5, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0.25]]
    np.testing.assert_allclose(shares, expected)


def test_segments_cover_shares_of_tokens():
    segments = jnp.asarray([[0, 0, 1, 1], [0, 2, 1, 7]])
    shares = np.asarray(segment_shares(segments, (2, 2), num_segments=3))
    np.testing.assert_allclose(shares, [[0.75, 0], [0, 0.75], [0.25, 0]])
    assert shares.argmax(-2).tolist() == [0, 1]


@SETTINGS
@given(st.integers(0, 2**31))
def test_region_takes_a_subset_when_there_is_no_room(seed):
    rng = np.random.default_rng(seed)
    members = jnp.asarray(rng.random((3, 12)) < rng.random((3, 1)))
    for noise in (None, jax.random.key(seed)):
        tokens, dropped = region(members, max_tokens=5, noise_or_key=noise)
        count = np.asarray(members.sum(-1))
        np.testing.assert_array_equal(tokens.count(), np.minimum(count, 5))
        np.testing.assert_array_equal(dropped, np.maximum(count - 5, 0))
        assert (np.asarray(members) | ~np.asarray(tokens.members(12))).all()
    first, _ = region(members, max_tokens=12)
    np.testing.assert_array_equal(first.members(12), members)


def test_whole_regions_are_hidden():
    owner = jnp.asarray([0, 0, 1, 1, 2, 2, 9, 9])
    noise = jnp.asarray([0.5, 0.1, 0.9])
    hidden = lambda k: hide_regions(noise, owner, num_visible=k, num_regions=3).hidden().tolist()  # noqa: E731
    assert hidden(6) == [0, 0, 0, 0, 1, 1, 0, 0]
    assert hidden(5) == [0, 1, 0, 0, 1, 1, 0, 0]
    assert hidden(1) == [1, 1, 1, 1, 1, 1, 0, 1]
