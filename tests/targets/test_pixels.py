"""Standardisation by data set and normalisation by patch."""

import jax.numpy as jnp
import numpy as np
import pytest

from maskjax.targets import pixels

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def patches(channels=3, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (2, 5, 4 * channels)).astype(dtype)


def test_standardize_is_per_channel_with_the_channel_fastest():
    raw = patches()
    out = np.asarray(pixels.standardize(jnp.asarray(raw), MEAN, STD)).reshape(2, 5, 4, 3)
    for channel in range(3):
        expected = (raw.reshape(2, 5, 4, 3)[..., channel] / 255 - MEAN[channel]) / STD[channel]
        np.testing.assert_allclose(out[..., channel], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_unstandardize_inverts_it(channels):
    raw = jnp.asarray(patches(channels))
    mean, std = (0.3, 0.4, 0.5, 0.6)[:channels], (0.2, 0.25, 0.3, 0.1)[:channels]
    back = pixels.unstandardize(pixels.standardize(raw, mean, std), mean, std)
    np.testing.assert_allclose(back, raw / 255, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_floats_are_standardised_already(dtype):
    raw = jnp.asarray(np.random.default_rng(0).normal(size=(2, 12)), dtype)
    out = pixels.standardize(raw, MEAN, STD)
    assert out.dtype == jnp.float32
    np.testing.assert_array_equal(out, raw.astype(jnp.float32))


def test_the_channels_must_fit():
    with pytest.raises(AssertionError):
        pixels.standardize(jnp.zeros((2, 13), jnp.uint8), MEAN, STD)


def test_patch_moments_have_the_unbiased_variance():
    values = np.random.default_rng(0).normal(size=(3, 12)).astype(np.float32)
    mean, std = pixels.patch_moments(jnp.asarray(values))
    np.testing.assert_allclose(mean[:, 0], values.mean(1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(std[:, 0], np.sqrt(values.var(1, ddof=1) + 1e-6), rtol=1e-5)
    biased = np.sqrt(values.var(1) + 1e-6)
    assert not np.isclose(std[:, 0], biased, rtol=1e-3).any()


@pytest.mark.parametrize(("scale", "shift"), [(3.0, 0.0), (1.0, -5.0), (0.2, 2.0)])
def test_the_target_does_not_change_under_contrast_and_brightness(scale, shift):
    values = jnp.asarray(np.random.default_rng(0).normal(size=(3, 48)), jnp.float32)
    plain = pixels.normalize_patches(values)
    other = pixels.normalize_patches(scale * values + shift)
    np.testing.assert_allclose(plain, other, atol=1e-4)
    np.testing.assert_allclose(plain.mean(-1), 0, atol=1e-6)
    np.testing.assert_allclose(plain.var(-1, ddof=1), 1, rtol=1e-4)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.3, -2.117904])
def test_a_constant_patch_gives_zeros(value):
    out = pixels.normalize_patches(jnp.full((2, 48), value, jnp.float32))
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out, 0, atol=1e-3)


def test_denormalize_inverts_it():
    values = jnp.asarray(np.random.default_rng(0).normal(2, 3, (3, 48)), jnp.float32)
    back = pixels.denormalize_patches(pixels.normalize_patches(values), values)
    np.testing.assert_allclose(back, values, rtol=1e-5, atol=1e-5)
