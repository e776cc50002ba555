"""Sheets of what methods say of patches: tokens, predicted losses, groups, choices, stages."""

import numpy as np

from maskjax.observe import canvas
from maskjax.observe.pictures import cover, hidden_pixels, infer_grid, paste, sheet

Grid = tuple[int, int]
RIGHT, WRONG = (38, 160, 92), (214, 69, 65)


def token_sheet(
    original: np.ndarray,
    hidden: np.ndarray,
    ids: np.ndarray,
    predicted: np.ndarray,
    *,
    grid: Grid | None = None,
    title: str = "",
) -> np.ndarray:
    """A sheet with original | masked | true tokens | predicted tokens for each image.

    Args:
        original: float[B, H, W, C] in 0..1.
        hidden: bool[B, N], True = the model did not see the patch.
        ids: int[B, N], of the visual tokens.
        predicted: int[B, N], the same for hidden patches; visible ones are left blank.
        grid: (rows, columns) of the patches; None for square patches.
        title: a line above.

    Returns:
        uint8[h, w, 3].

    Raises:
        UserError: if shapes do not fit each other.
    """
    shown, covered, grid = _shown(original, hidden, grid)
    guess = _painted(canvas.label_colour(np.maximum(predicted, 0)), grid, shown)
    columns = {
        "original": shown,
        "masked": cover(shown, covered),
        "visual tokens": _painted(canvas.label_colour(ids), grid, shown),
        "predicted where hidden": cover(guess, ~covered),
    }
    caption = f"A colour for each token. {canvas.channels_note(original.shape[-1])}"
    return sheet(columns, title=title, caption=caption)


def difficulty_sheet(
    original: np.ndarray,
    hidden: np.ndarray,
    difficulty: np.ndarray,
    errors: np.ndarray,
    *,
    grid: Grid | None = None,
    title: str = "",
) -> np.ndarray:
    """A sheet with original | masked | predicted losses | losses of hidden patches.

    Args:
        original, hidden, grid, title: as of `token_sheet`.
        difficulty: float[B, N], loss that is predicted for each patch; only its order counts.
        errors: float[B, N], what the loss is.

    Returns:
        uint8[h, w, 3].

    Raises:
        UserError: if shapes do not fit each other.
    """
    shown, covered, grid = _shown(original, hidden, grid)
    lowest = np.where(hidden, errors, -np.inf)
    found = _painted(canvas.colour(_rank(lowest, hidden.sum(1))), grid, shown)
    everywhere = np.full(len(hidden), hidden.shape[1])
    columns = {
        "original": shown,
        "masked": cover(shown, covered),
        "predicted loss": _painted(canvas.colour(_rank(difficulty, everywhere)), grid, shown),
        "loss where hidden": cover(found, ~covered),
    }
    caption = (
        "Colours are ranks within an image, dark = lowest, yellow = highest: the predictor is"
        f" trained to order patches, not to tell values. {canvas.channels_note(original.shape[-1])}"
    )
    return sheet(columns, title=title, caption=caption)


def group_sheet(
    original: np.ndarray,
    hidden: np.ndarray,
    owner: np.ndarray,
    mixed: np.ndarray,
    pixels: np.ndarray,
    *,
    grid: Grid | None = None,
    title: str = "",
) -> np.ndarray:
    """A sheet with original | its share | mixed image | owners | prediction + visible patches.

    Args:
        original, hidden, grid, title: as of `token_sheet`.
        owner: int[B, N], which image of the group each place of the mixed image comes from.
        mixed: float[B, H, W, C] in 0..1, what the encoder sees.
        pixels: float[B, H, W, C] in 0..1, prediction of every patch.

    Returns:
        uint8[h, w, 3].

    Raises:
        UserError: if shapes do not fit each other.
    """
    shown, covered, grid = _shown(original, hidden, grid)
    columns = {
        "original": shown,
        "its share": cover(shown, covered),
        "mixed image": canvas.to_rgb(mixed),
        "who owns what": _painted(canvas.label_colour(owner + 1), grid, shown),
        "prediction + share": canvas.to_rgb(paste(original, pixels, covered)),
    }
    caption = (
        "Images of a group follow each other; the encoder sees their mixed image alone. Where"
        " targets are normalised per patch, predictions are shown with the true mean and deviation."
        f" {canvas.channels_note(original.shape[-1])}"
    )
    return sheet(columns, title=title, caption=caption)


def choice_sheet(
    original: np.ndarray,
    hidden: np.ndarray,
    right: np.ndarray,
    pixels: np.ndarray,
    *,
    grid: Grid | None = None,
    title: str = "",
) -> np.ndarray:
    """A sheet with original | context | chosen patches | right and wrong choices.

    Args:
        original, hidden, grid, title: as of `token_sheet`.
        right: bool[B, N], the choice for this place is the place's own patch.
        pixels: float[B, H, W, C] in 0..1, the chosen patch at each hidden place.

    Returns:
        uint8[h, w, 3].

    Raises:
        UserError: if shapes do not fit each other.
    """
    shown, covered, grid = _shown(original, hidden, grid)
    verdict = np.where(right[..., None], np.uint8(RIGHT), np.uint8(WRONG))
    put = paste(shown, canvas.to_rgb(pixels), covered)
    columns = {
        "original": shown,
        "context": cover(shown, covered),
        "chosen patches": put,
        "green = right": paste(cover(shown, covered), _painted(verdict, grid, shown), covered),
    }
    caption = (
        "Each hidden place gets the hidden patch that the model finds fittest for it; one patch"
        f" may be chosen more than once. {canvas.channels_note(original.shape[-1])}"
    )
    return sheet(columns, title=title, caption=caption)


def stage_sheet(
    original: np.ndarray,
    hidden: np.ndarray,
    stage: np.ndarray,
    *,
    grid: Grid | None = None,
    title: str = "",
) -> np.ndarray:
    """A sheet with original | what stays after each point.

    Args:
        original, hidden, grid, title: as of `token_sheet`.
        stage: int[B, N], how many points each patch passed; those with the most stay to the end.

    Returns:
        uint8[h, w, 3].

    Raises:
        UserError: if shapes do not fit each other.
    """
    shown, _, grid = _shown(original, hidden, grid)
    columns = {"original": shown}
    for point in range(1, stage.max() + 1):
        left = hidden_pixels(stage < point, grid, original.shape[1:3])
        columns[f"after point {point}"] = cover(shown, left)
    caption = f"Patches that leave are grey. {canvas.channels_note(original.shape[-1])}"
    return sheet(columns, title=title, caption=caption)


def gaze_sheet(
    original: np.ndarray,
    hidden: np.ndarray,
    importance: np.ndarray,
    *,
    grid: Grid | None = None,
    title: str = "",
) -> np.ndarray:
    """A sheet with original | where the teacher looks | what stays visible.

    Args:
        original, hidden, grid, title: as of `token_sheet`.
        importance: float[B, N], how much it attends to each patch; only the order counts.

    Returns:
        uint8[h, w, 3].

    Raises:
        UserError: if shapes do not fit each other.
    """
    shown, covered, grid = _shown(original, hidden, grid)
    everywhere = np.full(len(hidden), hidden.shape[1])
    columns = {
        "original": shown,
        "teacher's attention": _painted(canvas.colour(_rank(importance, everywhere)), grid, shown),
        "stays visible": cover(shown, covered),
    }
    caption = (
        "Attention of the teacher's last class token, as ranks within an image: dark = least,"
        " yellow = most. Patches stay visible by chance, in proportion to it."
        f" {canvas.channels_note(original.shape[-1])}"
    )
    return sheet(columns, title=title, caption=caption)


def _shown(
    original: np.ndarray, hidden: np.ndarray, grid: Grid | None
) -> tuple[np.ndarray, np.ndarray, Grid]:
    """Pictures uint8[B, H, W, 3], their hidden pixels bool[B, H, W], the grid."""
    size = original.shape[1:3]
    grid = grid or infer_grid(size, hidden.shape[1])
    return canvas.to_rgb(original), hidden_pixels(hidden, grid, size), grid


def _painted(colours: np.ndarray, grid: Grid, shown: np.ndarray) -> np.ndarray:
    """Colours uint8[B, N, 3] of patches, over the pixels of `shown` [B, H, W, 3]."""
    height, width = shown.shape[1:3]
    cells = colours.reshape(-1, *grid, 3)
    return cells.repeat(height // grid[0], 1).repeat(width // grid[1], 2)


def _rank(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """float[B, N] -> ranks among the `counts` int[B] largest of each row, from 0 to 1."""
    place = values.argsort(1, kind="stable").argsort(1, kind="stable")
    first = values.shape[1] - counts[:, None]
    return np.maximum(place - first, 0) / np.maximum(counts[:, None] - 1, 1)
