"""Coloured noise, its banks and windows, and the masks cut from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from maskjax.masking import colors, random
from maskjax.masking.colors import BankWindow
from maskjax.masking.noise_filters import SIGMAS, filter_noise, make_bank, margin_of, radial_power

SETTINGS = settings(max_examples=20, deadline=None, derandomize=True)
FILTERED = [color for color in SIGMAS if color != "white"]
seeds = st.integers(0, 2**31)


def white(shape=(4, 24, 20), seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


def by_scipy(noise, color, sigmas, mode="wrap"):
    wide = noise.astype(np.float64)
    low = [ndimage.gaussian_filter(wide, (0, s, s), mode=mode, truncate=4.0) for s in sigmas]
    formulas = {
        "white": lambda: wide,
        "red": lambda: low[0],
        "blue": lambda: wide - low[0],
        "green": lambda: low[0] - low[1],
        "purple": lambda: wide - (low[0] - low[1]),
    }
    return formulas[color]()


@pytest.mark.parametrize("color", SIGMAS)
@pytest.mark.parametrize("sigmas", [None, (0.6, 3.1)])
def test_filters_are_scipys(color, sigmas):
    sigmas = SIGMAS[color] if sigmas is None else sigmas[: len(SIGMAS[color])]
    noise = white()
    found = filter_noise(noise, color, sigmas)
    np.testing.assert_allclose(found, by_scipy(noise, color, sigmas), atol=3e-6)


@pytest.mark.parametrize("color", SIGMAS)
def test_cropping_leaves_what_no_edge_reaches(color):
    noise = white((2, 40, 37))
    margin = margin_of(color)
    expected = by_scipy(noise, color, SIGMAS[color])[:, margin : 40 - margin, margin : 37 - margin]
    found = filter_noise(noise, color, edges="crop")
    np.testing.assert_allclose(found, expected, atol=3e-6)
    with pytest.raises(ValueError, match="too small to crop"):
        filter_noise(noise[:, : 2 * margin], color, edges="crop")


def test_colours_add_up_to_white():
    noise = white()
    for pair in (("red", "blue"), ("green", "purple")):
        total = sum(filter_noise(noise, color) for color in pair)
        np.testing.assert_allclose(total, noise, atol=1e-6)


def test_each_colour_has_its_spectrum():
    noise = jax.random.uniform(jax.random.key(0), (64, 32, 32))
    power = {c: np.asarray(radial_power(filter_noise(noise, c))) for c in SIGMAS}
    assert (np.diff(power["red"]) < 0).all()
    assert (np.diff(power["blue"][:6]) > 0).all() and power["blue"][-1] > power["blue"][0]
    assert 0 < power["green"].argmax() < 7 and 0 < power["purple"].argmin() < 7
    assert power["white"].max() < 1.3 * power["white"].min()


def test_masks_keep_the_order_of_correlation():
    """Neighbours: red > green > white > blue."""
    keys = jax.random.split(jax.random.key(0), 800)
    found = {}
    for color in ("red", "green", "white", "blue"):
        draw = lambda key: colors.colored(key, (10, 10), num_visible=25, color=color).hidden()  # noqa: B023, E731
        hidden = np.asarray(jax.jit(jax.vmap(draw))(keys)).reshape(-1, 10, 10)
        found[color] = np.corrcoef(hidden[:, :, 1:].ravel(), hidden[:, :, :-1].ravel())[0, 1]
    assert found["red"] > found["green"] + 0.1
    assert found["green"] > found["white"] + 0.1 and found["white"] > found["blue"] + 0.03
    assert abs(found["white"]) < 0.02


def test_white_is_the_random_mask():
    noise = white((12,))
    found = colors.colored(noise.reshape(3, 4), (3, 4), num_visible=5, color="white")
    np.testing.assert_array_equal(found.ids, random(-noise, (3, 4), num_visible=5).ids)


@pytest.mark.parametrize("edges", ["crop", "wrap"])
def test_noise_of_a_batch(edges):
    shape = colors.canvas((4, 5), "green", edges=edges)
    assert shape == ((4, 5) if edges == "wrap" else (20, 21))
    noise = white((3, *shape))
    batch = colors.colored(noise, (4, 5), num_visible=6, edges=edges)
    for i in range(3):
        one = colors.colored(noise[i], (4, 5), num_visible=6, edges=edges)
        np.testing.assert_array_equal(batch.ids[i], one.ids)
    with pytest.raises(AssertionError):
        colors.colored(noise[:, 1:], (4, 5), num_visible=6, edges=edges)


def test_bank_slices_are_stretched_from_0_to_1():
    bank = make_bank(jax.random.key(0), "purple", shape=(3, 16, 20))
    assert bank.shape == (3, 16, 20)
    np.testing.assert_allclose(bank.min((1, 2)), 0)
    np.testing.assert_allclose(bank.max((1, 2)), 1)
    again = make_bank(
        jax.random.uniform(jax.random.key(0), (3, 16, 20)), "purple", shape=(3, 16, 20)
    )
    np.testing.assert_array_equal(bank, again)
    assert not np.isnan(make_bank(jnp.ones((1, 4, 4)), "white", shape=(1, 4, 4))).any()


@SETTINGS
@given(seeds, st.booleans(), st.booleans())
def test_a_window_is_cut_flipped_and_scaled(seed, flip_rows, flip_columns):
    rng, bank = np.random.default_rng(seed), white((3, 9, 8))
    index, top, left = (int(rng.integers(0, n)) for n in (3, 9 - 4 + 1, 8 - 5 + 1))
    part = bank[index, top : top + 4, left : left + 5]
    part = np.flip(part, [axis for axis, flip in ((0, flip_rows), (1, flip_columns)) if flip])
    window = BankWindow(index, top, left, flip_rows, flip_columns)
    found = colors.take_window(bank, window, (4, 5))
    np.testing.assert_allclose(found, part / part.max(), rtol=1e-6)
    split = colors.colored_from_bank(window, bank, (4, 5), num_visible=7)
    np.testing.assert_array_equal(split.ids, np.argsort(-part.ravel() / part.max(), kind="stable"))


def test_windows_reach_every_place():
    draw = jax.vmap(lambda key: colors.draw_window(key, (2, 6, 5), (4, 4)))
    windows = jax.jit(draw)(jax.random.split(jax.random.key(0), 2000))
    for values, sizes in zip(windows, (2, 3, 2, 2, 2), strict=True):
        share = np.bincount(np.asarray(values).astype(int), minlength=sizes) / 2000
        assert len(share) == sizes
        np.testing.assert_allclose(share, 1 / sizes, atol=0.05)


def test_shared_windows_are_those_of_the_official_batch():
    windows = colors.shared_windows(jax.random.key(0), 10, (4, 30, 30), (4, 4))
    np.testing.assert_array_equal(windows.index, np.arange(10) % 4)
    for field in windows[1:]:
        for block in np.split(np.asarray(field), [4, 8]):
            assert len(np.unique(block)) == 1
    assert len(np.unique(windows.top)) > 1
