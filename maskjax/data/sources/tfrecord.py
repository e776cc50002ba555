"""TFRecord files without TensorFlow: an index from one pass, then random access.

A record is [u64 length][u32 crc of the length][bytes][u32 crc of the bytes], little-endian; the
crcs are CRC-32C, rotated and shifted (tensorflow/core/lib/io/record_writer.h).
"""

import struct
from collections.abc import Mapping

import numpy as np

from maskjax.data import files
from maskjax.data.cache import Index
from maskjax.data.sources.checks import require_package
from maskjax.errors import UserError

_HEADER = struct.Struct("<QI")
_CRC = struct.Struct("<I")


class TFRecords:
    """A ``records.Reader``.

    Args:
        indices: path -> what ``index_tfrecord`` gave.
        verify: check the crc of every record that is read.
    """

    def __init__(self, indices: Mapping[str, Index], verify: bool = False):
        self.indices, self.verify = indices, verify
        self._reader = files.RangeReader()

    def read(self, path: str, number: int) -> bytes:
        """Record ``number`` of a file.

        Raises:
            UserError: it cannot be read, or its crc is wrong.
        """
        index = self.indices[path]
        offset, size = int(index["offset"][number]), int(index["size"][number])
        if not self.verify:
            return self._reader.read(path, offset, size)
        data = self._reader.read(path, offset, size + _CRC.size)
        record = data[:size]
        if _CRC.unpack(data[size:])[0] != masked_crc(record):
            raise UserError(f"record {number} of {path} is damaged: its checksum is wrong")
        return record


def index_tfrecord(shard: files.Entry) -> Index:
    """offset, size: int64[N] of the records; payloads are skipped over.

    Raises:
        UserError: it is not a TFRecord file, or it is damaged or cut off.
    """
    offsets, sizes = [], []
    place = 0
    with files.open_file(shard.path) as file, files.named_errors("read", shard.path):
        while place < shard.size:
            file.seek(place)
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                raise UserError(f"{shard.path} is cut off at byte {place}")
            size, crc = _HEADER.unpack(header)
            if crc != masked_crc(header[:8]):
                what = "is damaged" if place else "is not an uncompressed TFRecord file"
                raise UserError(f"{shard.path} {what}: there is no record at byte {place}")
            offsets.append(place + _HEADER.size)
            sizes.append(size)
            place += _HEADER.size + size + _CRC.size
    if place > shard.size:
        raise UserError(f"{shard.path} is cut off inside its last record, number {len(sizes) - 1}")
    return {"offset": np.array(offsets, np.int64), "size": np.array(sizes, np.int64)}


def masked_crc(data: bytes) -> int:
    """The crc that TFRecord files hold."""
    require_package("google_crc32c", "TFRecord files", "maskjax[tfds]")
    import google_crc32c

    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
