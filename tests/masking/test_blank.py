"""Painting over: what is visible stays, what is hidden gets the colour, edges are smoothed."""

import numpy as np
import scipy.ndimage

from maskjax.masking.blank import blank, blank_smooth, share_visible

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 9, 11, 3)).astype(np.float32)
VALID = RNG.random((2, 9, 11)) < 0.5


def test_one_colour():
    colour = np.asarray([1.0, 2.0, 3.0], np.float32)
    expected = np.where(VALID[..., None], X, colour)
    np.testing.assert_array_equal(blank(X, VALID, colour), expected)


def test_a_smooth_edge_is_scipys_gaussian():
    found = np.asarray(blank_smooth(X, VALID, 0.5))
    np.testing.assert_array_equal(found[VALID], X[VALID])
    filled = np.where(VALID[..., None], X, 0.5)
    options = {"sigma": 1, "radius": 2, "mode": "constant", "axes": (1, 2)}
    smooth = scipy.ndimage.gaussian_filter(filled, **options)
    smooth /= scipy.ndimage.gaussian_filter(np.ones_like(filled), **options)
    np.testing.assert_allclose(found[~VALID], smooth[~VALID], rtol=1e-4, atol=1e-5)


def test_visible_share_of_patches():
    valid = np.zeros((1, 4, 6), bool)
    valid[0, :2, :3] = True
    np.testing.assert_allclose(share_visible(valid, 2), [[1, 0.5, 0, 0, 0, 0]])
