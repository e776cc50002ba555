"""Sheets and heat maps: sizes, shapes, what is where."""

import io

import numpy as np
import pytest
from PIL import Image

from maskjax.errors import UserError
from maskjax.observe import canvas, pictures
from maskjax.observe.coverage import coverage_map


def images(num=2, height=32, width=32, channels=3, seed=0):
    return np.random.default_rng(seed).random((num, height, width, channels), np.float32)


def hidden(num, tokens, seed=0):
    return np.random.default_rng(seed).random((num, tokens)) < 0.75


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
@pytest.mark.parametrize(
    ("size", "grid"), [((32, 32), (8, 8)), ((16, 48), (2, 6)), ((30, 20), (3, 2))]
)
def test_any_channels_and_grids(channels, size, grid):
    original = images(3, *size, channels)
    sheet = pictures.reconstruction_sheet(
        original, original, hidden(3, grid[0] * grid[1]), grid=grid
    )
    assert sheet.dtype == np.uint8
    assert sheet.shape[2] == 3
    scale = -(-140 // max(size))
    assert sheet.shape[0] >= 3 * size[0] * scale
    assert sheet.shape[1] >= 4 * size[1] * scale


def test_tiles_are_the_pictures_they_should_be():
    original, prediction = images(1, seed=1), images(1, seed=2)
    mask = np.zeros((1, 4), bool)
    mask[0, 1] = True  # upper right
    covered = pictures.hidden_pixels(mask, (2, 2), (32, 32))
    assert covered[0, :16, 16:].all()
    assert covered.sum() == 256
    sheet = pictures.reconstruction_sheet(original, prediction, mask)
    scale, step = 5, 5 * 32 + 6
    tile = lambda column: sheet[top : top + 160, 18 + column * step : 18 + column * step + 160]  # noqa: E731
    big = canvas.enlarge(canvas.to_rgb(original[0]), scale)
    top = next(y for y in range(len(sheet)) if np.array_equal(sheet[y, 18:178], big[0]))
    assert np.array_equal(tile(0), big)
    assert np.array_equal(tile(2), canvas.enlarge(canvas.to_rgb(prediction[0]), scale))
    assert (tile(1)[:80, 80:] == pictures.HIDDEN_COLOUR).all()
    assert np.array_equal(tile(1)[80:], big[80:])
    assert np.array_equal(tile(3)[:80, 80:], tile(2)[:80, 80:])
    assert np.array_equal(tile(3)[:, :80], big[:, :80])


def test_the_caption_about_patch_statistics_takes_room():
    original = images(8)
    plain = pictures.reconstruction_sheet(original, original, hidden(8, 64))
    noted = pictures.reconstruction_sheet(original, original, hidden(8, 64), patch_normalized=True)
    assert noted.shape[0] > plain.shape[0]
    assert plain.shape[1] > plain.shape[0]  # two blocks side by side


def test_odd_values_are_shown_not_raised():
    image = np.array([[[np.nan], [2.0], [-1.0], [np.inf]]])
    assert canvas.to_rgb(image)[0, :, 0].tolist() == [0, 255, 0, 255]


def test_grids_are_inferred_or_asked_for():
    assert pictures.infer_grid((32, 48), 24) == (4, 6)
    with pytest.raises(UserError, match="pass grid"):
        pictures.infer_grid((32, 32), 6)
    with pytest.raises(UserError, match="does not fit"):
        pictures.hidden_pixels(hidden(1, 64), (7, 9), (32, 32))
    with pytest.raises(UserError, match="must both be"):
        pictures.reconstruction_sheet(images(1), images(2), hidden(1, 64))


@pytest.mark.parametrize("grid", [(1, 1), (8, 8), (4, 14), (64, 16)])
def test_coverage_maps(grid):
    frequency = np.random.default_rng(0).random(grid)
    picture = coverage_map(frequency, num_masks=100)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    flat = coverage_map(np.full(grid, 0.75))
    assert np.isfinite(flat).all()


def test_coverage_refuses_what_is_no_share():
    with pytest.raises(UserError, match=r"shares in 0\.\.1"):
        coverage_map(np.full((2, 2), 75.0))


def test_colours_run_from_dark_to_light():
    bright = canvas.colour(np.linspace(0, 1, 50)).astype(int) @ [299, 587, 114]
    assert (np.diff(bright) > 0).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_png_round_trip(tmp_path, channels):
    image = (images(1, 5, 7, channels)[0] * 255).astype(np.uint8)
    path = pictures.save_png(tmp_path / "a" / "b.png", image)
    found = np.asarray(Image.open(path))
    assert np.array_equal(found if channels == 3 else found[..., None], image)
    assert Image.open(io.BytesIO(pictures.png_bytes(image))).size == (7, 5)
    with pytest.raises(UserError, match="must be uint8"):
        pictures.save_png(tmp_path / "c.png", image.astype(np.float32))
