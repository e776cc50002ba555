"""Bytes and arrays -> uint8[H, W, C], whatever the file was."""

import io

import numpy as np
import pytest
from image_files import encode
from PIL import Image

from maskjax.data.decode import decode
from maskjax.errors import UserError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 5, 3), np.uint8)
GREY = RNG.integers(0, 256, (6, 5), np.uint8)


def luma(image):
    return np.asarray(Image.fromarray(image).convert("L"))[..., None]


def test_colour_and_grey():
    assert np.array_equal(decode(encode(COLOUR), 3), COLOUR)
    assert np.array_equal(decode(encode(COLOUR), 1), luma(COLOUR))
    assert np.array_equal(decode(encode(GREY), 1), GREY[..., None])
    assert np.array_equal(decode(encode(GREY), 3), np.repeat(GREY[..., None], 3, 2))


def test_channels_of_the_file():
    assert decode(encode(GREY)).shape == (6, 5, 1)
    assert decode(encode(COLOUR)).shape == (6, 5, 3)
    assert decode(encode(GREY.astype(np.uint16) * 257)).shape == (6, 5, 1)


def test_luma_weights():
    """ITU-R 601: 0.299 R + 0.587 G + 0.114 B."""
    expected = COLOUR @ np.array([0.299, 0.587, 0.114])
    assert np.abs(decode(encode(COLOUR), 1)[..., 0] - expected).max() <= 1


def test_sixteen_bits_keep_the_high_byte():
    wide = RNG.integers(0, 65536, (6, 5), np.uint16)
    for channels in (1, 3):
        assert np.array_equal(decode(encode(wide), channels)[..., 0], (wide >> 8).astype(np.uint8))


def test_alpha_is_dropped():
    alpha = np.dstack([COLOUR, GREY])
    assert np.array_equal(decode(encode(alpha), 3), COLOUR)
    assert np.array_equal(decode(encode(np.dstack([GREY, GREY])), 1), GREY[..., None])


@pytest.mark.parametrize("transparency", [None, 0, bytes([0, 128, 255, 7])])
def test_palettes_are_looked_up(transparency):
    picture = Image.fromarray(GREY % 4, "P")
    palette = RNG.integers(0, 256, (4, 3), np.uint8)
    picture.putpalette(palette.tobytes())
    data = io.BytesIO()
    options = {} if transparency is None else {"transparency": transparency}
    picture.save(data, "PNG", **options)
    assert np.array_equal(decode(data.getvalue(), 3), palette[GREY % 4])


def test_cmyk():
    smooth = np.full((16, 16, 3), (200, 30, 90), np.uint8)
    data = io.BytesIO()
    Image.fromarray(smooth).convert("CMYK").save(data, "JPEG", quality=95)
    assert np.abs(decode(data.getvalue(), 3).astype(int) - smooth).max() < 12
    assert decode(data.getvalue(), 1).shape == (16, 16, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    # How a camera stores an upright picture for each value of the tag (EXIF 2.3, tag 0x0112).
    stored = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.transpose(1, 0, 2),
        6: lambda x: np.rot90(x, 1),
        7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
        8: lambda x: np.rot90(x, -1),
    }[orientation](COLOUR)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(stored)).save(data, "PNG", exif=exif)
    assert np.array_equal(decode(data.getvalue(), 3), COLOUR)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_arrays_pass_unchanged(channels):
    image = RNG.integers(0, 256, (4, 5, channels), np.uint8)
    assert decode(image, channels) is image
    assert decode(image) is image


def test_arrays_follow_the_rules_of_files():
    assert np.array_equal(decode(COLOUR, 1), decode(encode(COLOUR), 1))
    assert np.array_equal(decode(GREY, 3), decode(encode(GREY), 3))


@pytest.mark.parametrize(
    ("image", "channels", "message"),
    [
        (b"", 3, "cannot decode image 'set/7.png' .0 bytes"),
        (b"GIF89a", 3, "cannot decode image 'set/7.png'"),
        (b"not an image at all", 3, "cannot decode image 'set/7.png'"),
        (encode(COLOUR)[:-30], 3, "cannot decode image 'set/7.png'"),
        (encode(RNG.integers(0, 256, (64, 64, 3), np.uint8), "JPEG")[:900], 3, "truncated"),
        (encode(COLOUR), 4, "'set/7.png' is an encoded file: .* 1 or 3 channels, not 4"),
        (encode(GREY.astype(np.float32), "TIFF"), 1, "floating-point pixels have no known range"),
        (COLOUR.astype(np.float32), 3, r"'set/7.png' must be uint8.*found float32\[6, 5, 3\]"),
        (COLOUR[None], 3, "must be uint8"),
        (COLOUR[:0], 3, "must be uint8"),
        (np.dstack([COLOUR, GREY]), 3, "'set/7.png' has 4 channels, the model wants 3"),
    ],
)
def test_errors_name_the_image(image, channels, message):
    with pytest.raises(UserError, match=message):
        decode(image, channels, "set/7.png")


def test_decompression_bomb(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(UserError, match=r"cannot decode image 'bomb'.*exceeds limit"):
        decode(encode(COLOUR), 3, "bomb")
