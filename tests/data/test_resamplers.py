"""Three libraries that resize, cutting boxes out, and views of a picture decoded once."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import encode
from PIL import Image

from maskjax.data import decode, resize, transforms
from maskjax.data.random import host_rng
from maskjax.data.sources.photos import photo
from maskjax.data.transforms import TrainTransform
from maskjax.errors import UserError

PHOTO = photo("chelsea")  # [300, 451, 3]
SETTINGS = [(r, i) for r, known in resize.RESAMPLERS.items() for i in known]
sides = st.integers(1, 60)


def difference(a, b):
    return np.abs(a.astype(int) - b)


@pytest.mark.parametrize("interpolation", resize.RESAMPLERS["simd"])
@pytest.mark.parametrize("box", [(10, 20, 250, 310), (50, 60, 120, 90), (0, 0, 300, 451)])
def test_simd_has_the_filters_of_pillow(interpolation, box):
    """A few grey levels at strong edges, where both clip between the passes; 0.3 on average."""
    pillow, simd = (
        resize.crop_and_resize(PHOTO, box, (224, 224), interpolation, resample)
        for resample in ("pillow", "simd")
    )
    assert difference(pillow, simd).max() <= 6
    assert difference(pillow, simd).mean() < 0.3


def test_opencv_does_not_antialias():
    """Stripes one pixel wide become grey when halved, unless only single pixels are looked at."""
    stripes = np.zeros((64, 64, 1), np.uint8)
    stripes[:, ::4] = 255
    smooth = resize.resize(stripes, (16, 16), "bilinear", "pillow")
    rough = resize.resize(stripes, (16, 16), "bilinear", "opencv")
    area = resize.resize(stripes, (16, 16), "area", "opencv")
    inner = slice(1, -1)  # The stripe at the border counts more.
    assert difference(smooth[:, inner], 64).max() <= 2
    assert difference(area[:, inner], 64).max() <= 2
    assert difference(rough[:, inner], 64).max() > 30


@pytest.mark.parametrize("resample, interpolation", SETTINGS)
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_every_setting_takes_every_channel_count(resample, interpolation, channels):
    image = host_rng(0, "noise", 0).integers(0, 256, (30, 40, channels), np.uint8)
    out = resize.resize(image, (11, 17), interpolation, resample)
    assert (out.shape, out.dtype) == ((11, 17, channels), np.uint8)
    alone = resize.resize(image[..., :1], (11, 17), interpolation, resample)
    assert np.array_equal(out[..., :1], alone)
    assert (resize.resize(image * 0 + 77, (50, 7), interpolation, resample) == 77).all()


@settings(deadline=None, max_examples=60)
@given(sides, sides, sides, sides, st.tuples(*[st.floats(0, 1)] * 4), st.sampled_from(SETTINGS))
def test_boxes_between_pixels(height, width, h, w, edges, setting):
    """Any box is taken, and what lies outside it has no influence."""
    top, bottom = (round(v * height, 3) for v in sorted(edges[:2]))
    left, right = (round(v * width, 3) for v in sorted(edges[2:]))
    box = (top, left, max(bottom - top, 0.5), max(right - left, 0.5))
    box = (min(top, height - box[2]), min(left, width - box[3]), *box[2:])
    image = np.full((height, width, 3), 200, np.uint8)
    inside = resize.crop_and_resize(image, box, (h, w), setting[1], setting[0])
    assert inside.shape == (h, w, 3)
    outside = np.zeros_like(image)
    rows = slice(int(np.floor(box[0])), int(np.ceil(box[0] + box[2])))
    columns = slice(int(np.floor(box[1])), int(np.ceil(box[1] + box[3])))
    outside[rows, columns] = 200
    again = resize.crop_and_resize(outside, box, (h, w), setting[1], setting[0])
    assert np.array_equal(inside, again)


@pytest.mark.parametrize("interpolation", resize.RESAMPLERS["simd"])
def test_simd_gives_the_same_on_every_processor(interpolation):
    """With and without the instruction sets of this one: whole numbers, not floats."""
    import cykooz_resizer as simd

    expected = resize.resize(PHOTO, (97, 211), interpolation, "simd")
    default, seen = resize._local.resizer.cpu_extensions, []
    for extensions in simd.CpuExtensions:
        try:
            resize._local.resizer.cpu_extensions = extensions
        except ValueError:  # Not on this processor.
            continue
        seen.append(extensions)
        again = resize.resize(PHOTO, (97, 211), interpolation, "simd")
        assert np.array_equal(again, expected)
    resize._local.resizer.cpu_extensions = default
    assert simd.CpuExtensions.none in seen


@pytest.mark.parametrize("resample, interpolation", SETTINGS)
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("size", [(11, 17), (30, 40)])
def test_mirrored(resample, interpolation, channels, size):
    image = host_rng(0, "noise", 1).integers(0, 256, (30, 40, channels), np.uint8)
    how = (0, 0, 30, 40), size, interpolation, resample
    mirrored = resize.crop_and_resize(image, *how, mirror=True)
    assert np.array_equal(mirrored, resize.crop_and_resize(image, *how)[:, ::-1])


def test_threads_do_not_share_buffers():
    expected = resize.resize(PHOTO, (64, 64), "bicubic", "simd")
    wrong = []

    def work():
        for size in ((64, 64), (80, 31), (64, 64)) * 10:
            out = resize.resize(PHOTO, size, "bicubic", "simd")
            if size == (64, 64) and not np.array_equal(out, expected):
                wrong.append(size)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    "setting, message",
    [
        (("cv2", "bicubic"), "unknown resample 'cv2'; it is one of: pillow, simd, opencv"),
        (("pillow", "area"), "unknown interpolation 'area'; with resample 'pillow' .*lanczos"),
    ],
)
def test_settings_are_checked(setting, message):
    with pytest.raises(UserError, match=message):
        resize.check_resampler(*setting)


def test_a_missing_library_is_named(monkeypatch):
    resize._resizer.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(UserError, match=r"needs a package that is not installed \(cv2\).*\[fast\]"):
        TrainTransform((8, 8), resample="opencv")


@pytest.fixture(scope="module")
def large():
    """A photograph of 1800 x 2706 pixels: {"image", "id"}."""
    pixels = np.asarray(Image.fromarray(PHOTO).resize((2706, 1800), Image.Resampling.BICUBIC))
    return {"image": encode(pixels, "JPEG", quality=95), "id": "large"}


@pytest.mark.parametrize(
    "resample, interpolation, bound",
    # OpenCV has no boxes that end between pixels, so it moves by up to a quarter of a pixel.
    [("pillow", "bicubic", 0.5), ("simd", "bicubic", 0.5), ("opencv", "area", 2.5)],
)
def test_reduced_decoding_keeps_the_picture(large, resample, interpolation, bound):
    """The same boxes, not moved, and less than a grey level beside the whole picture."""
    options = {"resample": resample, "interpolation": interpolation}
    full = TrainTransform((64, 64), reducing_gap=0, **options)
    reduced = TrainTransform((64, 64), **options)
    for i in range(6):
        a, b = (t(large, host_rng(0, "augment", i)) for t in (full, reduced))
        assert difference(a, b).mean() < bound


def test_how_far_a_picture_is_reduced(large, monkeypatch):
    asked = []
    pixels = decode._Jpeg.pixels

    def spy(self, reduce=1):
        asked.append(reduce)
        return pixels(self, reduce)

    monkeypatch.setattr(decode._Jpeg, "pixels", spy)
    scale = (1.0, 1.0)
    for size, gap in ((64, 2.0), (200, 2.0), (400, 2.0), (500, 2.0), (500, 1.0), (64, 0)):
        transform = TrainTransform((size, size), scale=scale, ratio=(1.5, 1.51), reducing_gap=gap)
        transform(large, host_rng(0, "augment", 0))
    assert asked == [8, 4, 2, 1, 2, 1]


def test_views_decode_once_and_are_numbered(monkeypatch):
    item = {"image": encode(PHOTO, "JPEG"), "id": "cat"}
    transform = TrainTransform((32, 32))
    rngs = [host_rng(3, "augment", 7, draw) for draw in range(4)]
    opened = []
    open_picture = decode.open_picture

    def spy(*arguments):
        opened.append(arguments)
        return open_picture(*arguments)

    monkeypatch.setattr(transforms, "open_picture", spy)
    views = transform.views(item, rngs)
    assert len(opened) == 1
    assert len(views) == 4
    for draw, view in enumerate(views):
        assert np.array_equal(view, transform(item, host_rng(3, "augment", 7, draw)))
    assert not np.array_equal(views[0], views[1])
