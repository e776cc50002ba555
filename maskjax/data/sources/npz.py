"""``npz:FILE``: arrays ``image`` and ``label``, or ``image_<split>`` and ``label_<split>``."""

import zipfile
from functools import partial
from typing import NamedTuple

import numpy as np

from maskjax.data import files
from maskjax.data.sources.arrays import Arrays, ArraySource, with_channels
from maskjax.errors import UserError


class Header(NamedTuple):
    """What an array is, without its values."""

    shape: tuple[int, ...]
    dtype: np.dtype


def build(argument: str, split: str) -> "NpzSource":
    """Splits: every one for which there is image_<split>; any, when there is only ``image``.

    image: uint8[N, H, W, C] or uint8[N, H, W]; label: integers [N], optional. Only the headers are
    read here; the arrays are loaded into memory on first use.
    """
    path = files.absolute(argument)
    if not argument or not files.is_file(path):
        raise UserError(f"npz:{argument}: there is no file {path}")
    headers = read_headers(path)
    image_key, label_key = _keys(path, headers, split)
    _check_images(path, image_key, headers[image_key])
    if label_key is not None:
        _check_labels(path, label_key, headers[label_key], headers[image_key].shape[0])
    return NpzSource(path, image_key, label_key, headers[image_key].shape[0])


class NpzSource(ArraySource):
    """The images of one split of an npz file; the id of an example is its number in the array."""

    def __init__(self, path: str, image_key: str, label_key: str | None, count: int):
        super().__init__(partial(_load, path, image_key, label_key))
        self.count = count

    def __len__(self) -> int:
        return self.count


def _load(path: str, image_key: str, label_key: str | None) -> Arrays:
    try:
        with files.open_file(path) as raw, np.load(raw, allow_pickle=False) as file:
            images = with_channels(file[image_key])
            labels = None if label_key is None else file[label_key]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"cannot read {image_key} from {path}: {error}") from error
    return Arrays(images, labels, np.arange(len(images)))


def read_headers(path: str) -> dict[str, Header]:
    """The header of every array of an npz file; no values are read."""
    try:
        with files.open_file(path) as raw, zipfile.ZipFile(raw) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            return {name.removesuffix(".npy"): _read_header(archive, name) for name in names}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is not an npz file that numpy can read: {error}") from error


def _read_header(archive: zipfile.ZipFile, name: str) -> Header:
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(member)
    return Header(shape, dtype)


def _keys(path: str, headers: dict[str, Header], split: str) -> tuple[str, str | None]:
    splits = sorted(key.removeprefix("image_") for key in headers if key.startswith("image_"))
    if split in splits:
        image_key, label_key = f"image_{split}", f"label_{split}"
    elif splits:
        raise UserError(f"{path} has no array image_{split}; its splits are: {', '.join(splits)}")
    elif "image" in headers:
        image_key, label_key = "image", "label"
    else:
        found = ", ".join(headers) or "nothing"
        raise UserError(f"{path} has no array 'image' and no 'image_{split}'; it holds: {found}")
    return image_key, label_key if label_key in headers else None


def _check_images(path: str, key: str, header: Header) -> None:
    if header.dtype != np.uint8 or len(header.shape) not in (3, 4):
        raise UserError(
            f"{path}: {key} must be uint8 (N, H, W, C) or (N, H, W),"
            f" found {header.dtype} {header.shape}"
        )
    if 0 in header.shape:
        raise UserError(f"{path}: {key} is empty, its shape is {header.shape}")


def _check_labels(path: str, key: str, header: Header, count: int) -> None:
    if header.dtype.kind not in "iu" or header.shape != (count,):
        raise UserError(
            f"{path}: {key} must be integers of shape ({count},), one for each image,"
            f" found {header.dtype} {header.shape}"
        )
