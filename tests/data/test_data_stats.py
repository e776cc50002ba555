"""Mean and standard deviation per channel."""

import json

import numpy as np
import pytest

from maskjax.data import stats
from maskjax.data.source import resolve
from maskjax.errors import UserError


@pytest.mark.parametrize(("spec", "channels"), stats.TABLE)
def test_table_is_what_the_command_computes(spec, channels):
    got = stats.run(spec, "train", channels=channels)
    mean, std = stats.known_stats(spec, channels)
    assert got["mean"] == pytest.approx(mean, abs=1e-4)
    assert got["std"] == pytest.approx(std, abs=1e-4)


def test_definition(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 3, 6), np.uint8)
    np.savez(tmp_path / "a.npz", image=images)
    mean, std = stats.compute_stats(resolve(f"npz:{tmp_path}/a.npz", "train"))
    assert np.allclose(mean, images.mean((0, 1, 2)) / 255)
    assert np.allclose(std, images.std((0, 1, 2)) / 255)


def test_pictures_of_different_sizes_count_by_pixels():
    source = [
        {"image": np.full((2, 2, 1), 255, np.uint8), "id": "a"},
        {"image": np.zeros((1, 2, 1), np.uint8), "id": "b"},
    ]
    mean, std = stats.compute_stats(source)
    assert mean == pytest.approx(4 / 6)
    assert std == pytest.approx(np.sqrt(2 / 9))


def test_limit_takes_images_evenly():
    source = [{"image": np.full((1, 1, 1), i, np.uint8), "id": ""} for i in range(100)]
    mean, _ = stats.compute_stats(source, limit=10)
    assert mean * 255 == pytest.approx(45)


def test_run_gives_plain_values():
    got = stats.run("photo_crops", "test", limit=7)
    assert json.loads(json.dumps(got)) == got
    assert {key: got[key] for key in ("data", "split", "images", "of", "channels")} == {
        "data": "photo_crops",
        "split": "test",
        "images": 7,
        "of": 1080,
        "channels": 3,
    }
    assert len(got["mean"]) == len(got["std"]) == 3


def test_known_stats_without_reading_anything():
    assert stats.known_stats("photo_crops:16", 3) == stats.TABLE["photo_crops", 3]
    assert stats.known_stats("folder:/data/imagenet", 3) == stats.IMAGENET
    assert stats.known_stats("synthetic:8x8x5:9", 5) == ((0.498,) * 5, (0.205,) * 5)
    for spec, channels in (("folder:/data/xray", 1), ("npz:a.npz", 12), ("digits", 2)):
        with pytest.raises(UserError, match=f"maskjax data-stats --data={spec}"):
            stats.known_stats(spec, channels)


def test_errors():
    with pytest.raises(UserError, match="there are no images"):
        stats.compute_stats([])
    mixed = [{"image": np.zeros((2, 2, c), np.uint8), "id": f"i{c}"} for c in (1, 3)]
    with pytest.raises(UserError, match="'i3' has 3 channels, the ones before have 1"):
        stats.compute_stats(mixed)
    assert len(stats.compute_stats(mixed, channels=3)[0]) == 3
