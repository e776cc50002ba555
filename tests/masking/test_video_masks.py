"""Tubes and running cells: VideoMAE V2's masks, and its golden masks."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax.masking.video import running_cell, running_cell_ids, tube, tube_visible

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden" / "videomae_v2.npz"
SETTINGS = settings(max_examples=20, deadline=None, derandomize=True)


@SETTINGS
@given(st.integers(0, 2**31), st.integers(0, 12), st.sampled_from(["noise", "raster"]))
def test_every_time_step_has_the_same_mask(seed, visible, order):
    noise = np.random.default_rng(seed).random(12, np.float32)
    split = tube(jnp.asarray(noise), (3, 3, 4), num_visible=3 * visible, order=order)
    hidden = np.asarray(split.hidden()).reshape(3, 12)
    assert (hidden == hidden[0]).all() and (~hidden[0]).sum() == visible
    steps = np.asarray(split.visible_ids).reshape(3, visible)
    np.testing.assert_array_equal(steps // 12, np.arange(3)[:, None].repeat(visible, 1))
    expected = np.argsort(noise, kind="stable")[:visible]
    np.testing.assert_array_equal(
        steps % 12, [sorted(expected) if order == "raster" else expected] * 3
    )


def test_the_official_counts():
    assert tube_visible((8, 14, 14), 0.9) == 160
    assert tube_visible((8, 16, 16), 0.9) == 8 * (256 - 230)
    assert running_cell_ids((8, 14, 14), (2, 2), 784).shape == (4, 1568)


def test_batched_noise_makes_batched_tubes():
    noise = jax.random.uniform(jax.random.key(0), (5, 12))
    batched = tube(noise, (2, 3, 4), num_visible=8)
    single = jax.vmap(lambda n: tube(n, (2, 3, 4), num_visible=8).ids)(noise)
    np.testing.assert_array_equal(batched.ids, single)


@pytest.mark.parametrize(("cell", "share"), [((2, 2), 1), ((2, 2), 2), ((2, 2), 3), ((1, 3), 2)])
def test_the_pattern_rotates_through_every_cell(cell, share):
    """`share` of the places of a cell are predicted at each time step, and in turn all alike."""
    places, size = cell[0] * cell[1], (7, 4, 6)
    for start in range(places):
        split = running_cell(
            jnp.int32(start), size, num_visible=7 * 24 * share // places, cell=cell
        )
        hidden = np.asarray(split.hidden()).reshape(size)
        cells = hidden.reshape(7, 4 // cell[0], cell[0], 6 // cell[1], cell[1])
        cells = cells.transpose(0, 1, 3, 2, 4).reshape(7, -1, places)
        assert (cells == cells[:, :1]).all(), "all cells are alike"
        pattern = np.arange(places) < places - share
        expected = [np.roll(pattern, -(start + t + 1)) for t in range(7)]
        np.testing.assert_array_equal(cells[:, 0], expected)
        window = np.stack([hidden[t : t + places].sum(0) for t in range(8 - places)])
        assert (window == places - share).all()
        for part in (split.visible_ids, split.hidden_ids):
            assert (np.diff(part) > 0).all(), "raster order"


def test_start_from_noise():
    size, count = (4, 2, 2), 8
    for start in range(4):
        expected = running_cell(jnp.int32(start), size, num_visible=count).ids
        for noise in (start / 4, (start + 0.999999) / 4):
            found = running_cell(jnp.float32(noise), size, num_visible=count).ids
            np.testing.assert_array_equal(found, expected)


def test_predicted_tokens_that_the_encoder_saw_have_no_weight():
    """The two masks are independent; the loss counts what is predicted and was hidden."""
    size = (8, 14, 14)
    encoder = tube(jax.random.key(0), size, num_visible=160)
    decoder = running_cell(jax.random.key(1), size, num_visible=784)
    weight = np.asarray(encoder.hidden())[decoder.visible_ids]
    assert weight.shape == (784,) and weight.sum() < 784
    assert abs(weight.mean() - 1408 / 1568) < 0.02


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda k: tube(k, (3, 2, 2), num_visible=7), "take a multiple of 3, up to 12"),
        (lambda k: tube(k, (3, 2, 2), num_visible=15), "take a multiple of 3, up to 12"),
        (lambda k: running_cell(k, (2, 3, 4), num_visible=12), "does not divide 3 x 4 tokens"),
        (lambda k: running_cell(k, (2, 4, 4), num_visible=12), "take a multiple of 8, up to 32"),
        (lambda k: running_cell(k, (2, 4, 4), num_visible=40), "take a multiple of 8, up to 32"),
    ],
)
def test_infeasible_requests_raise_when_they_are_built(call, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(call, jax.random.key(0))


def test_a_ratio_outside_its_range():
    with pytest.raises(ValueError, match="hidden share"):
        tube_visible((8, 14, 14), 1.1)


@pytest.mark.skipif(not GOLDEN.is_file(), reason="no golden file: ../shared/golden is not there")
def test_the_masks_that_the_official_code_drew_are_masks_of_ours():
    with np.load(GOLDEN) as file:
        cfg = json.loads(str(file["config"]))
        encoder, dropped = file["mask/encoder_masked"], file["mask/decoder_dropped"]
    side = cfg["img_size"] // cfg["patch_size"]
    size = (cfg["num_frames"] // cfg["tubelet_size"], side, side)
    visible = tube_visible(size, cfg["mask_ratio"])
    for mask in encoder:
        # Noise that shows what the official mask shows in the first time step.
        split = tube(jnp.asarray(mask[: side**2], jnp.float32), size, num_visible=visible)
        np.testing.assert_array_equal(split.hidden(), mask)
    predicted = int((1 - cfg["decoder_mask_ratio"]) * np.prod(size))
    starts = [running_cell(jnp.int32(s), size, num_visible=predicted).hidden() for s in range(4)]
    for mask in dropped:
        assert sum((np.asarray(start) == mask).all() for start in starts) == 1
