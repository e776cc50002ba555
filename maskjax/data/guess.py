"""Which kind of source a path without a kind is."""

import re

from maskjax.data import files
from maskjax.data.sources.formats import is_image
from maskjax.data.sources.tfds_dir import INFO
from maskjax.errors import UserError

# kind -> how the names of its files end (TFDS shards have a number behind it).
_FILES = {
    "wds": re.compile(r"\.tar$", re.IGNORECASE),
    "parquet": re.compile(r"\.parquet$", re.IGNORECASE),
    "array_record": re.compile(r"\.array_?record(-\d+-of-\d+)?$", re.IGNORECASE),
    "npz": re.compile(r"\.npz$", re.IGNORECASE),
}
_VERSION = re.compile(r"\d+\.\d+\.\d+")


def guess(path: str) -> str | None:
    """The kind of source at a path or pattern of files; None if nothing there is known.

    A directory with dataset_info.json, in itself or in the folder of a version, is "tfds"; else the
    files in it, and in its folders (splits, data), decide: "wds", "parquet", "array_record",
    "folder" for images.

    Raises:
        UserError: it holds files of several kinds.
    """
    place = files.absolute(path)
    by_name = _kind(place.rpartition("#")[0] or place)
    if by_name:
        return by_name
    if not files.is_dir(place):
        return None
    names, folders = files.scan(place)
    below = {name: files.scan(files.join(place, name))[0] for name in folders[:64]}
    described = [name for name in below if _VERSION.fullmatch(name) and INFO in below[name]]
    if INFO in names or described:
        return "tfds"
    found = {_kind(name) for name in names} | {
        _kind(n) for inside in below.values() for n in inside
    }
    kinds = sorted(found - {None, "npz"})
    if len(kinds) > 1:
        raise UserError(
            f"{path} holds files of several kinds; say which to read: "
            + " or ".join(f"{kind}:{path}" for kind in kinds)
        )
    if kinds:
        return kinds[0]
    return "folder" if folders and not found - {None} and _has_images_below(place, below) else None


def _kind(name: str) -> str | None:
    if is_image(name):
        return "folder"
    return next((kind for kind, ending in _FILES.items() if ending.search(name)), None)


def _has_images_below(place: str, folders: dict[str, list[str]]) -> bool:
    """Whether DIR/<split>/<class>/ of the first few classes has images."""
    for name in folders:
        split = files.join(place, name)
        for inside in files.scan(split)[1][:4]:
            if any(map(is_image, files.scan(files.join(split, inside))[0])):
                return True
    return False
