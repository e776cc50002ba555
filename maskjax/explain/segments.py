"""Super-pixels of an image: what LIME switches on and off as a whole."""

import numpy as np

from maskjax.errors import UserError

KINDS = ("slic", "quickshift", "grid")


def segment(image: np.ndarray, kind: str = "slic", *, cells: int = 50) -> np.ndarray:
    """int32[H, W]: the segment of each pixel, 0 .. S - 1, every one of them there.

    Args:
        image: uint8[H, W, C] with C = 1 or 3.
        kind: "slic" (about `cells` segments), "quickshift" (kernel 2, max_dist 200, ratio 0.2, as
            the paper of layer masking has it for LIME; for 3 channels), or "grid" (the largest
            square grid of at most `cells` cells).
        cells: how many segments are wanted.

    Raises:
        UserError: for another kind, or without scikit-image.
    """
    if kind not in KINDS:
        raise UserError(f"segments {kind!r}: choose {', '.join(KINDS)}")
    if cells < 2:
        raise UserError(f"segments: {cells} of them; 2 or more are needed")
    if kind == "grid":
        side = max(2, int(cells**0.5))
        return grid(image.shape[:2], side)
    try:
        from skimage import segmentation
    except ImportError:
        raise UserError(
            f"segments {kind!r} need scikit-image: pip install 'maskjax[explain]'; or take grid"
        ) from None
    if kind == "quickshift":
        rgb = np.broadcast_to(image, (*image.shape[:2], 3))
        found = segmentation.quickshift(rgb, kernel_size=2, max_dist=200, ratio=0.2)
    else:
        channels = {"channel_axis": -1} if image.shape[-1] == 3 else {"channel_axis": None}
        shown = image if image.shape[-1] == 3 else image[..., 0]
        compactness = 10.0 if image.shape[-1] == 3 else 0.1
        options = {"n_segments": cells, "compactness": compactness, "start_label": 0}
        found = segmentation.slic(shown, **options, **channels)
    return np.unique(found, return_inverse=True)[1].reshape(image.shape[:2]).astype(np.int32)


def grid(size: tuple[int, int], side: int) -> np.ndarray:
    """int32[H, W]: side x side cells of nearly equal size."""
    rows, columns = (np.arange(n) * side // n for n in size)
    return (rows[:, None] * side + columns).astype(np.int32)


def visible_pixels(on: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """bool[n, S] of segments, int[H, W] -> bool[n, H, W] of pixels."""
    return np.asarray(on, bool)[:, segments]
