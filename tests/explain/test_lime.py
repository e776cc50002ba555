"""LIME: the ridge fit is scikit-learn's, segments are found again, picture and table."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from maskjax.errors import UserError
from maskjax.explain import lime, pictures, segments


def test_ridge_is_scikit_learns():
    on = lime.perturbations(60, 7, seed=3)
    scores = np.random.default_rng(0).random((2, 60)).astype(np.float32)
    found = lime.fit(on, scores)
    weights = np.asarray(lime.sample_weights(on))
    for column, coefficients in zip(scores, found, strict=True):
        expected = Ridge(alpha=1).fit(on, column, sample_weight=weights).coef_
        np.testing.assert_allclose(coefficients, expected, rtol=1e-4, atol=1e-5)


def test_sample_weights_fall_with_the_cosine_distance():
    on = np.asarray([[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]], bool)
    distance = np.asarray([0, 0.5, 1])
    expected = np.sqrt(np.exp(-(distance**2) / 0.25**2))
    np.testing.assert_allclose(lime.sample_weights(on), expected, rtol=1e-5)


def test_perturbations_start_with_the_whole_image():
    on = lime.perturbations(512, 30)
    assert on[0].all() and 0.45 < on[1:].mean() < 0.55
    np.testing.assert_array_equal(on, lime.perturbations(512, 30))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 99))
def test_a_linear_classifier_gets_its_own_weights(seed):
    """Scores that add up over segments: the order of the coefficients is that of the parts."""
    parts = segments.grid((8, 8), 2)
    truth = np.random.default_rng(seed).permutation(4) - 1.5

    def classify(images, visible):
        share = np.stack([visible[:, parts == i].mean(1) for i in range(4)], 1)
        return np.stack([share @ truth / 4, -share @ truth / 4], 1)

    image = np.zeros((8, 8, 3), np.uint8)
    found = lime.explain({"a": classify, "b": classify}, image, parts, 0, num=100, batch=32)
    assert (np.argsort(found["a"]) == np.argsort(truth)).all()
    np.testing.assert_array_equal(found["a"], found["b"])


@pytest.mark.parametrize("kind", segments.KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_segments_cover_the_image(kind, channels):
    image = np.zeros((24, 32, channels), np.uint8)
    image[:, 16:] = 200
    image[12:, :16] = 90
    found = segments.segment(image, kind, cells=9)
    assert found.shape == (24, 32) and found.dtype == np.int32
    assert set(np.unique(found)) == set(range(found.max() + 1))
    assert found.max() >= 2
    valid = segments.visible_pixels(np.eye(found.max() + 1, dtype=bool), found)
    assert valid.any(0).all() and (valid.sum(0) == 1).all()
    if kind != "grid":
        assert found[0, 0] != found[0, 31]


def test_errors_of_segments():
    with pytest.raises(UserError, match="choose slic, quickshift, grid"):
        segments.segment(np.zeros((8, 8, 3), np.uint8), "felzenszwalb")
    with pytest.raises(UserError, match="2 or more"):
        segments.segment(np.zeros((8, 8, 3), np.uint8), "grid", cells=1)


def test_sheet_and_table():
    parts = segments.grid((8, 12), 2)
    found = {"layer": np.asarray([1.0, -0.5, 0.0, 0.2]), "grey": np.zeros(4)}
    image = np.full((8, 12, 3), 100, np.uint8)
    sheet = pictures.lime_sheet(image, parts, found, title="a title")
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3
    colours = pictures.heat(image, parts, found["layer"])
    assert colours[0, 0, 0] > colours[0, 0, 2] and colours[0, 11, 2] > colours[0, 11, 0]
    assert (colours[7, 0] == 100).all()
    rows = list(csv.DictReader(pictures.to_csv(pictures.lime_rows(parts, found)).splitlines()))
    assert [float(row["layer"]) for row in rows] == [1.0, -0.5, 0.0, 0.2]
    assert sum(int(row["pixels"]) for row in rows) == 96
