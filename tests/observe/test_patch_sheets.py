"""Sheets of patches: what each tile shows, read back from the picture."""

import numpy as np
import pytest

from maskjax.errors import UserError
from maskjax.observe import canvas, layer_table, patch_maps
from maskjax.observe.pictures import HIDDEN_COLOUR

# Two images of 4 x 4 patches of 35 x 35 pixels: tiles of 140 are not enlarged.
SIDE, PATCH = 140, 35
RNG = np.random.default_rng(0)
ORIGINAL = RNG.uniform(size=(2, SIDE, SIDE, 3))
HIDDEN = np.arange(32).reshape(2, 16) % 3 > 0


def tiles(sheet, columns):
    """uint8[2, columns, 4, 4, 3]: the middle pixel of each patch of each tile."""
    height, width = sheet.shape[:2]
    left = np.arange(columns) * (SIDE + 6) + 18
    assert width == left[-1] + SIDE + 18
    # The first tile begins where its column stops to be paper.
    paper = (sheet[:, left[0] : left[0] + SIDE] == 255).all(-1).mean(1)
    top = next(y for y in range(height) if paper[y] < 0.1)
    places = np.arange(4) * PATCH + PATCH // 2
    rows = [top + row * (SIDE + 6) + places for row in range(2)]
    return np.stack([[sheet[np.ix_(r, x + places)] for x in left] for r in rows])


def flat(picture):
    return picture.reshape(2, 16, 3)


@pytest.fixture(scope="module")
def middle():
    shown = canvas.to_rgb(ORIGINAL)
    places = np.arange(4) * PATCH + PATCH // 2
    return shown[:, places][:, :, places].reshape(2, 16, 3)


def test_predicted_losses_are_drawn_as_ranks(middle):
    difficulty, errors = RNG.uniform(size=(2, 16)), RNG.uniform(size=(2, 16))
    sheet = patch_maps.difficulty_sheet(ORIGINAL, HIDDEN, difficulty, errors)
    again = patch_maps.difficulty_sheet(ORIGINAL, HIDDEN, 10 * difficulty + 3, errors**3)
    np.testing.assert_array_equal(sheet, again)
    found = tiles(sheet, 4)
    np.testing.assert_array_equal(flat(found[:, 0]), middle)
    np.testing.assert_array_equal(
        flat(found[:, 1]), np.where(HIDDEN[..., None], HIDDEN_COLOUR, middle)
    )
    hardest = difficulty.argmax(1)
    for row in range(2):
        np.testing.assert_array_equal(flat(found[:, 2])[row, hardest[row]], canvas.colour(1.0))
        wrong = flat(found[:, 3])[row]
        np.testing.assert_array_equal(
            wrong[~HIDDEN[row]], np.uint8([HIDDEN_COLOUR] * 6)[: 16 - HIDDEN[row].sum()]
        )
        worst = np.where(HIDDEN[row], errors[row], -1).argmax()
        np.testing.assert_array_equal(wrong[worst], canvas.colour(1.0))
        least = np.where(HIDDEN[row], errors[row], 2).argmin()
        np.testing.assert_array_equal(wrong[least], canvas.colour(0.0))


def test_groups_show_owners_and_the_mixed_image(middle):
    owner = np.tile(np.arange(16) % 4, (2, 1))
    pixels = 1 - ORIGINAL
    found = tiles(patch_maps.group_sheet(ORIGINAL, HIDDEN, owner, pixels, pixels), 5)
    np.testing.assert_array_equal(flat(found[:, 3]), canvas.label_colour(owner + 1))
    np.testing.assert_allclose(flat(found[:, 2]), 255.0 - middle, atol=1)
    pasted = np.where(HIDDEN[..., None], 255.0 - middle, middle)
    np.testing.assert_allclose(flat(found[:, 4]), pasted, atol=1)


def test_choices_are_green_or_red():
    right = RNG.uniform(size=(2, 16)) < 0.5
    found = flat(tiles(patch_maps.choice_sheet(ORIGINAL, HIDDEN, right, ORIGINAL), 4)[:, 3])
    np.testing.assert_array_equal((found == patch_maps.RIGHT).all(-1), HIDDEN & right)
    np.testing.assert_array_equal((found == patch_maps.WRONG).all(-1), HIDDEN & ~right)


def test_the_gaze_is_a_rank_and_hidden_patches_are_covered():
    importance = RNG.uniform(size=(2, 16))
    columns = tiles(patch_maps.gaze_sheet(ORIGINAL, HIDDEN, importance), 3)
    again = tiles(patch_maps.gaze_sheet(ORIGINAL, HIDDEN, 5 * importance), 3)
    np.testing.assert_array_equal(columns, again)
    assert not np.array_equal(
        columns, tiles(patch_maps.gaze_sheet(ORIGINAL, HIDDEN, -importance), 3)
    )
    same = (flat(columns[:, 2]) == flat(columns[:, 0])).all(-1)
    assert same[~HIDDEN].all() and not same[HIDDEN].all()


def test_tokens_have_a_colour_each():
    ids = RNG.integers(0, 50, (2, 16))
    guess = np.where(HIDDEN, ids, -1)
    found = tiles(patch_maps.token_sheet(ORIGINAL, HIDDEN, ids, guess), 4)
    np.testing.assert_array_equal(flat(found[:, 2]), canvas.label_colour(ids))
    same = (flat(found[:, 2]) == flat(found[:, 3])).all(-1)
    np.testing.assert_array_equal(same, HIDDEN)
    assert len(np.unique(canvas.label_colour(np.arange(8192)), axis=0)) > 8000


def test_what_does_not_fit_is_an_error():
    with pytest.raises(UserError, match="a grid of 3 x 5 does not fit 16 patches"):
        patch_maps.choice_sheet(ORIGINAL, HIDDEN, HIDDEN, ORIGINAL, grid=(3, 5))
    with pytest.raises(UserError, match="rows of one number or more"):
        layer_table.layer_table({"rate": []})


def test_a_table_of_layers_colours_each_row_by_itself():
    first, last = canvas.colour(0.0), canvas.colour(1.0)
    table = layer_table.layer_table({"a": [1.0, 2.0, 3.0], "bb": [40.0, 30.0]}, title="t")
    for colour in (first, last):
        # The corner of a cell for each row: the longer one has three, of three colours.
        assert ((table == colour).all(-1)).sum() > 2 * 500
    constant = layer_table.layer_table({"a": [5.0, 5.0]})
    assert ((constant == canvas.colour(0.5)).all(-1)).sum() > 2 * 500


def test_stages_cover_what_left_until_then(middle):
    stage = np.arange(32).reshape(2, 16) % 4
    sheet = patch_maps.stage_sheet(ORIGINAL, stage < 3, stage)
    found = tiles(sheet, 4)
    np.testing.assert_array_equal(flat(found[:, 0]), middle)
    for point in (1, 2, 3):
        expected = np.where((stage < point)[..., None], HIDDEN_COLOUR, middle)
        np.testing.assert_array_equal(flat(found[:, point]), expected)
