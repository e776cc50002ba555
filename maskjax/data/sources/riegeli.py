"""ArrayRecord files by byte ranges, for stores that the C++ reader does not open.

A file is a chain of Riegeli chunks, with a header of 24 bytes at every multiple of 64 KiB
(github.com/google/riegeli, doc/riegeli_records_file_format.md). Its last 64 KiB begin with a
chunk that says where the footer is, and the footer lists the chunks of records
(github.com/google/array_record, cpp/layout.proto). Chunk hashes are not checked.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from maskjax.data import files
from maskjax.errors import UserError

_BLOCK, _BLOCK_HEADER = 2**16, 24
# hash, size of the data, its hash, type and number of records (1 and 7 bytes), decoded size.
_CHUNK = struct.Struct("<8xQ8xQQ")
_MAGIC = 0x71930E704FDAE05E
_CODECS = {ord("b"): "brotli", ord("z"): "zstd", ord("s"): "snappy"}
# layout.proto: RiegeliPostscript {1: footer_offset, 2: magic}; ArrayRecordFooter {1: chunk_offset,
# 2: decoded_data_size, 3: num_records}.
_OFFSET, _MAGIC_FIELD, _COUNT = 1, 2, 3


class _Chunk(NamedTuple):
    offset: int
    size: int
    first: int  # The number of its first record.


class RangeArrayRecord:
    """A file as ``array_record_file.open_array_record`` returns it.

    Raises:
        UserError: it is no ArrayRecord file, is damaged, or was written with transpose:true.
    """

    def __init__(self, path: str, reader: files.RangeReader):
        self._path, self._reader = path, reader
        found = files.entry(path)
        if found is None or found.size < 2 * _BLOCK:
            raise UserError(f"{path} is not an ArrayRecord file")
        end = found.size - _BLOCK
        try:
            postscript = dict(_fields(self._chunk(end, found.size)[0]))
            if postscript.get(_MAGIC_FIELD) != _MAGIC:
                raise ValueError("its last block is no postscript")
            footer = postscript[_OFFSET]
            listed = [dict(_fields(record)) for record in self._chunk(footer, end)]
        except (ValueError, KeyError, IndexError, struct.error, OSError) as error:
            raise UserError(f"{path} is not an ArrayRecord file, or damaged: {error}") from error
        # The first record of the footer is about the file.
        offsets = [chunk.get(_OFFSET, 0) for chunk in listed[1:]]
        counts = [chunk.get(_COUNT, 0) for chunk in listed[1:]]
        self._offsets = np.array([*offsets, footer], np.int64)
        self._ends = np.cumsum(counts, dtype=np.int64)

    def num_records(self) -> int:
        """How many records there are."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def read(self, numbers: list[int]) -> list[bytes]:
        """The records with these numbers; each costs one request.

        Raises:
            UserError: it cannot be read.
        """
        return [self._record(number) for number in numbers]

    def _record(self, number: int) -> bytes:
        which = int(np.searchsorted(self._ends, number, side="right"))
        first = int(self._ends[which - 1]) if which else 0
        try:
            records = self._chunk(int(self._offsets[which]), int(self._offsets[which + 1]))
            return records[number - first]
        except (ValueError, IndexError, struct.error, OSError) as error:
            raise UserError(f"record {number} of {self._path} is damaged: {error}") from error

    def _chunk(self, start: int, end: int) -> list[bytes]:
        """The records of the chunk that begins at a byte and ends before another."""
        data = _without_block_headers(self._reader.read(self._path, start, end - start), start)
        size, kind_and_count, decoded = _CHUNK.unpack_from(data)
        kind, count = kind_and_count & 0xFF, kind_and_count >> 8
        if kind != ord("r"):
            what = "transpose:true" if kind == ord("t") else f"chunks of type {kind}"
            raise ValueError(f"files with {what} are not read from object stores")
        body = data[_CHUNK.size : _CHUNK.size + size]
        length, place = _varint(body, 1)
        sizes = _decompressed(body[0], body[place : place + length])
        values = _decompressed(body[0], body[place + length :])
        return _split(sizes, values, count, decoded)


def _without_block_headers(data: bytes, start: int) -> bytes:
    parts, place = [], 0
    while place < len(data):
        within = (start + place) % _BLOCK
        skip = max(0, _BLOCK_HEADER - within)
        following = place + _BLOCK - within
        parts.append(data[place + skip : following])
        place = following
    return b"".join(parts)


def _decompressed(compression: int, data: bytes) -> bytes:
    if compression == 0:
        return data
    if compression not in _CODECS:
        raise ValueError(f"compression {chr(compression)!r} is not known")
    import pyarrow

    size, place = _varint(data, 0)
    if size == 0:
        return b""
    codec = pyarrow.Codec(_CODECS[compression])
    return codec.decompress(data[place:], decompressed_size=size).to_pybytes()


def _split(sizes: bytes, values: bytes, count: int, decoded: int) -> list[bytes]:
    records, at, place = [], 0, 0
    for _ in range(count):
        size, at = _varint(sizes, at)
        records.append(values[place : place + size])
        place += size
    if place != len(values) or place != decoded:
        raise ValueError("its sizes do not add up")
    return records


def _fields(message: bytes) -> Iterator[tuple[int, int]]:
    """(number, value) of the integer fields of a serialised protobuf message."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        if key & 7 == 0:
            value, place = _varint(message, place)
            yield key >> 3, value
        elif key & 7 == 1:
            yield key >> 3, struct.unpack_from("<Q", message, place)[0]
            place += 8
        elif key & 7 == 2:
            size, place = _varint(message, place)
            place += size
        else:
            raise ValueError("a field of an unknown type")


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """An integer of 7 bits a byte, lowest first -> (value, the place after it)."""
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
        shift += 7
