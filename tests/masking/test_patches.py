"""Between pixels and patches."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax import masking
from maskjax.masking import patches

SETTINGS = settings(max_examples=50, deadline=None, derandomize=True)
small = st.tuples(st.integers(1, 4), st.integers(1, 4))


@SETTINGS
@given(small, small, st.integers(1, 4), st.integers(0, 2))
def test_unpatchify_inverts_patchify(grid, patch, channels, batch_axes):
    shape = (2,) * batch_axes + (grid[0] * patch[0], grid[1] * patch[1], channels)
    image = np.random.default_rng(0).normal(size=shape)
    tokens = masking.patchify(image, patch)
    assert tokens.shape == (*shape[:-3], grid[0] * grid[1], patch[0] * patch[1] * channels)
    np.testing.assert_array_equal(masking.unpatchify(tokens, grid, patch), image)
    assert patches.grid_of(shape[-3:-1], patch) == grid


@SETTINGS
@given(small, small, st.integers(1, 4), st.data())
def test_a_patch_lists_its_pixels_by_row_column_channel(grid, patch, channels, data):
    image = np.arange(grid[0] * patch[0] * grid[1] * patch[1] * channels)
    image = image.reshape(grid[0] * patch[0], grid[1] * patch[1], channels)
    pick = lambda stop: data.draw(st.integers(0, stop - 1))  # noqa: E731
    row, column, y, x, channel = map(pick, (*grid, *patch, channels))
    value = masking.patchify(image, patch)[
        row * grid[1] + column, (y * patch[1] + x) * channels + channel
    ]
    assert value == image[row * patch[0] + y, column * patch[1] + x, channel]


def test_keeps_the_type_and_works_on_jax_arrays():
    image = jnp.arange(24, dtype=jnp.uint8).reshape(4, 6, 1)
    tokens = masking.patchify(image, (2, 3))
    assert tokens.dtype == jnp.uint8
    np.testing.assert_array_equal(tokens[1], [3, 4, 5, 9, 10, 11])


@SETTINGS
@given(small, small, st.integers(0, 2**31))
def test_patch_masks_and_pixel_masks(grid, patch, seed):
    hidden = np.random.default_rng(seed).uniform(size=(2, grid[0] * grid[1])) < 0.5
    pixels = patches.to_pixels(hidden, grid, patch)
    assert pixels.shape == (2, grid[0] * patch[0], grid[1] * patch[1])
    for rule in ("any", "all"):
        np.testing.assert_array_equal(patches.from_pixels(pixels, patch, rule=rule), hidden)
    # to_pixels is unpatchify of a repeated value.
    repeated = np.repeat(hidden[..., None], patch[0] * patch[1], -1)
    np.testing.assert_array_equal(masking.unpatchify(repeated, grid, patch)[..., 0], pixels)


def test_one_pixel_decides_under_any_and_under_all():
    pixels = np.zeros((4, 4), bool)
    pixels[0, 3] = True
    np.testing.assert_array_equal(patches.from_pixels(pixels, (2, 2)), [False, True, False, False])
    assert not patches.from_pixels(pixels, (2, 2), rule="all").any()
    flipped = patches.from_pixels(~pixels, (2, 2), rule="all")
    np.testing.assert_array_equal(flipped, [True, False, True, True])


@pytest.mark.parametrize("patch", [(3, 2), (2, 4), (0, 2), (2, -2), (8, 8)])
def test_a_patch_that_does_not_divide(patch):
    with pytest.raises(ValueError, match="does not divide the image size"):
        masking.patchify(np.zeros((4, 6, 3)), patch)


def test_other_errors():
    with pytest.raises(AssertionError):
        masking.unpatchify(np.zeros((5, 12)), (2, 3), (2, 2))
    with pytest.raises(AssertionError):
        patches.to_pixels(np.zeros(5), (2, 3), (2, 2))
    with pytest.raises(AssertionError):
        patches.from_pixels(np.zeros((4, 4)), (2, 2))
    with pytest.raises(ValueError, match="'any' or 'all', got 'most'"):
        patches.from_pixels(np.zeros((4, 4), bool), (2, 2), rule="most")
