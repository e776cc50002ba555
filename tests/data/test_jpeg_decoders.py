"""simplejpeg and Pillow: the same pixels, the same refusals; sizes are known before decoding."""

import io
import struct
import zlib

import numpy as np
import pytest
from image_files import encode
from PIL import Image

from maskjax.data.decode import Decoding, decode, open_picture
from maskjax.data.sources.photos import photo_bytes
from maskjax.errors import UserError

PILLOW, FAST = Decoding("pillow"), Decoding("simplejpeg")
PHOTO = decode(photo_bytes("chelsea"), 3)  # [300, 451, 3]


def both(data, channels=None, reduce=1):
    return [
        open_picture(data, channels, "x", decoding).pixels(reduce) for decoding in (PILLOW, FAST)
    ]


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("quality", [20, 75, 97])
def test_both_decoders_give_the_same_pixels(subsampling, progressive, quality):
    """Bit for bit: both are libjpeg-turbo with its exact transform and smooth upsampling."""
    options = {"subsampling": subsampling, "progressive": progressive, "quality": quality}
    data = encode(PHOTO, "JPEG", **options)
    for channels in (1, 3, None):
        pillow, fast = both(data, channels)
        assert np.array_equal(pillow, fast)


def test_grey_and_unusual_colour_spaces():
    grey = encode(PHOTO[..., 0], "JPEG")
    rgb = encode(PHOTO, "JPEG", keep_rgb=True)
    cmyk = io.BytesIO()
    Image.fromarray(PHOTO).convert("CMYK").save(cmyk, "JPEG")
    for data in (grey, rgb, cmyk.getvalue()):
        for channels in (1, 3, None):
            pillow, fast = both(data, channels)
            assert np.array_equal(pillow, fast)
    assert decode(grey).shape == (300, 451, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpegs_are_turned_upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(PHOTO[:40, :24], "JPEG", exif=exif, quality=95)
    for reduce in (1, 2):
        pillow, fast = both(data, 3, reduce)
        assert np.array_equal(pillow, fast)
    picture = open_picture(data, 3)
    assert (picture.height, picture.width) == picture.pixels().shape[:2]
    assert (picture.height, picture.width) == ((40, 24) if orientation < 5 else (24, 40))


def test_orientation_in_xmp_behind_other_segments():
    """Some editors write it only there; a long comment stands in front."""
    xmp = b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>'
    data = encode(PHOTO[:40, :24], "JPEG", comment=b"c" * 30000)
    segment = b"\xff\xe1" + (len(xmp) + 2).to_bytes(2, "big") + xmp
    at = data.index(b"\xff\xdb")  # The first table: behind JFIF and the comment
    pillow, fast = both(data[:at] + segment + data[at:], 3)
    assert fast.shape == (24, 40, 3)
    assert np.array_equal(pillow, fast)


@pytest.mark.parametrize("reduce", [2, 4, 8])
@pytest.mark.parametrize("size", [(300, 451), (299, 64), (17, 33)])
def test_reduced_decoding(reduce, size):
    data = encode(PHOTO[: size[0], : size[1]], "JPEG", quality=90)
    pillow, fast = both(data, 3, reduce)
    assert np.array_equal(pillow, fast)
    assert fast.shape[:2] == tuple(-(-side // reduce) for side in size)


def test_other_formats_are_not_reduced():
    assert open_picture(encode(PHOTO), 3).pixels(4).shape == PHOTO.shape
    assert open_picture(PHOTO, 3).pixels(4) is PHOTO


def test_a_picture_can_be_decoded_again():
    for data in (encode(PHOTO), encode(PHOTO, "JPEG")):
        picture = open_picture(data, 3)
        assert np.array_equal(picture.pixels(), picture.pixels())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("decoding", [PILLOW, FAST])
def test_a_truncated_file_is_an_error_wherever_it_ends(kind, decoding):
    """Never a picture that is grey from somewhere on."""
    data = encode(PHOTO[:96, :96], kind)
    for share in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
        with pytest.raises(UserError, match="cannot decode image 'cut'"):
            decode(data[: int(len(data) * share)], 3, "cut", decoding)


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_a_cut_that_was_closed_again_is_found(keep):
    """The end marker behind a hole hides it from Pillow, not from simplejpeg."""
    data = encode(PHOTO, "JPEG")
    closed = data[: int(len(data) * keep)] + b"\xff\xd9"
    with pytest.raises(UserError, match=r"'x' .*truncated or damaged: .*premature end"):
        decode(closed, 3, "x")
    assert decode(closed, 3, "x", PILLOW).shape == PHOTO.shape


def png_header(height, width):
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 9) + b"IDAT" + b"\0" * 13


def jpeg_header(height, width):
    data = bytearray(encode(PHOTO[:16, :16], "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize("decoding", [PILLOW, FAST])
@pytest.mark.parametrize("make", [png_header, jpeg_header])
def test_a_bomb_is_refused_by_its_header(make, decoding, monkeypatch):
    """60,000 pixels wide: nothing is decoded, so no memory is asked for either."""
    data = make(60000, 60000)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(UserError, match=r"'bomb'.*(60000 x 60000 pixels|exceeds limit)"):
        open_picture(data, 3, "bomb", decoding)


def test_the_limit_is_a_setting():
    data = encode(PHOTO, "JPEG")
    assert decode(data, 3, "x", Decoding(max_pixels=300 * 451)).shape == PHOTO.shape
    message = "'x'.*451 x 300 pixels, more than the limit max_pixels = 135299"
    with pytest.raises(UserError, match=message):
        decode(data, 3, "x", Decoding(max_pixels=300 * 451 - 1))


@pytest.mark.parametrize(
    "options, message",
    [
        (("opencv",), "unknown decoder 'opencv'; it is one of: simplejpeg, pillow"),
        (("pillow", 0), "max_pixels must be in 1"),
        (("pillow", 10**9), "max_pixels must be in 1"),
    ],
)
def test_settings_are_checked(options, message):
    with pytest.raises(UserError, match=message):
        Decoding(*options)
