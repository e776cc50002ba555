"""What is where in an uncompressed tar file: one pass over its headers."""

import json
import logging
import tarfile
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from maskjax.data import files
from maskjax.data.cache import Index
from maskjax.data.sources.packed import PackedNames
from maskjax.errors import UserError

log = logging.getLogger(__name__)

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_BLOCK = 512
NO_LABEL = np.iinfo(np.int64).min


class Member(NamedTuple):
    """One file in a tar: its extension without the first dot, and where its content is."""

    extension: str
    offset: int
    size: int


def index_tar(shard: files.Entry) -> Index:
    """The samples of a tar file: members with the same name up to the first dot of the file name.

    Returns:
        keys uint8, key_ends int64[S]: packed names of the samples, in the order of their first
        members; parts int64[S]: how many members each has; extensions: packed names, of which
        part_extension int64[P] holds the numbers; part_offset, part_size int64[P]; label int64[S]
        (``NO_LABEL`` without one): of the member .cls, else "label" of the member .json.

    Raises:
        UserError: the file is compressed, damaged or cut off; a member is a link, has a name that
            points out of the archive or comes twice; a label is no integer.
    """
    samples: dict[str, list[Member]] = {}
    with files.open_file(shard.path) as file, files.named_errors("read", shard.path):
        for name, member in _members(shard, file):
            samples.setdefault(name, []).append(member)
        labels = [_label(shard, file, name, parts) for name, parts in samples.items()]
    parts = [member for members in samples.values() for member in members]
    numbers = {name: n for n, name in enumerate(sorted({part.extension for part in parts}))}
    keys, extensions = PackedNames.of(samples), PackedNames.of(numbers)
    return {
        "keys": keys.data,
        "key_ends": keys.ends,
        "parts": np.array([len(members) for members in samples.values()], np.int64),
        "extensions": extensions.data,
        "extension_ends": extensions.ends,
        "part_extension": np.array([numbers[part.extension] for part in parts], np.int64),
        "part_offset": np.array([part.offset for part in parts], np.int64),
        "part_size": np.array([part.size for part in parts], np.int64),
        "label": np.array(labels, np.int64),
    }


def _members(shard: files.Entry, file) -> Iterator[tuple[str, Member]]:
    """(stem, member) of the regular files, in the order of the archive."""
    seen = set()
    end = 0
    for info in _open(shard, file):
        end = info.offset_data + -(-info.size // _BLOCK) * _BLOCK * info.isreg()
        if info.offset_data + info.size * info.isreg() > shard.size:
            raise UserError(f"{shard.path} is cut off inside its member {info.name}")
        _check_name(shard, info)
        name = info.name.removeprefix("./")
        folder, slash, last = name.rpartition("/")
        if info.isdir() or last.startswith((".", "__")):
            continue
        if name in seen:
            raise UserError(f"{shard.path} has two members {name}")
        seen.add(name)
        stem, _, extension = last.partition(".")
        yield f"{folder}{slash}{stem}", Member(extension.lower(), info.offset_data, info.size)
    _check_end(shard, file, end)


def _open(shard: files.Entry, file) -> tarfile.TarFile:
    start = file.read(8)
    file.seek(0)
    for magic, name in _MAGIC.items():
        if start.startswith(magic):
            raise UserError(
                f"{shard.path} is compressed with {name}: parts of it cannot be read on their own."
                " Unpack it to a plain .tar (images are compressed already)"
            )
    try:
        return tarfile.open(fileobj=file, mode="r:")
    except tarfile.TarError as error:
        raise UserError(f"{shard.path} is not a tar file: {error}") from error


def _check_name(shard: files.Entry, info: tarfile.TarInfo) -> None:
    if info.name.startswith("/") or ".." in info.name.split("/"):
        raise UserError(f"{shard.path}: the member {info.name!r} points out of the archive")
    if not (info.isfile() or info.isdir()) or info.issparse():
        raise UserError(
            f"{shard.path}: the member {info.name!r} is a link or a special file; only files and"
            " folders are read"
        )


def _check_end(shard: files.Entry, file, end: int) -> None:
    """tarfile stops at a header that it cannot read just as at the end of the archive."""
    file.seek(end)
    rest = file.read(_BLOCK)
    if rest.strip(b"\0"):
        raise UserError(f"{shard.path} is damaged: there is no tar header at byte {end}")
    if len(rest) < _BLOCK:
        log.warning("%s ends without the mark for its end: was it written to the end?", shard.path)


def _label(shard: files.Entry, file, name: str, parts: list[Member]) -> int:
    texts = {part.extension: part for part in parts}
    for extension in ("cls", "json"):
        if extension in texts:
            file.seek(texts[extension].offset)
            text = file.read(texts[extension].size)
            try:
                label = int(text) if extension == "cls" else json.loads(text).get("label")
            except (ValueError, AttributeError) as error:
                wanted = "an integer" if extension == "cls" else "a JSON object"
                raise UserError(
                    f"{shard.path}: {name}.{extension} must hold {wanted}: {error}"
                ) from error
            if isinstance(label, int) and not isinstance(label, bool):
                return label
    return NO_LABEL
