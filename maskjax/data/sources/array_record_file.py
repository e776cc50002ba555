"""Random access to ArrayRecord files."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from maskjax.data import files
from maskjax.data.cache import Index
from maskjax.data.recent import Recent
from maskjax.data.sources.riegeli import RangeArrayRecord
from maskjax.errors import UserError

# The reader's own advice for random access; its default reads 16 MB ahead in many threads.
_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"


class ArrayRecords:
    """A ``records.Reader``.

    Args:
        lengths: path -> number of records that the file must have.
    """

    def __init__(self, lengths: Mapping[str, int]):
        self.lengths = lengths
        self._open = Recent(files.max_open_files())

    def read(self, path: str, number: int) -> bytes:
        """Record ``number`` of a file.

        Raises:
            UserError: it cannot be read, or the file has another length than it should.
        """
        reader = self._open.get(path, lambda: self._checked(path))
        try:
            return reader.read([number])[0]
        except Exception as error:
            # The C++ library raises plain RuntimeErrors.
            raise UserError(f"cannot read record {number} of {path}: {error}") from error

    def _checked(self, path: str) -> Any:
        reader = open_array_record(path)
        if reader.num_records() != self.lengths[path]:
            raise UserError(
                f"{path} has {reader.num_records()} records, not {self.lengths[path]} as it should"
            )
        return reader


def index_array_record(shard: files.Entry) -> Index:
    """count: int64[1], the number of records."""
    return {"count": np.array([open_array_record(shard.path).num_records()], np.int64)}


def open_array_record(path: str) -> Any:
    """A reader with ``num_records()`` and ``read([number, ...])``.

    Raises:
        UserError: there is no such file, or it is no ArrayRecord file.
    """
    if not files.is_file(path):
        raise UserError(f"there is no file {path}")
    if files.is_remote(path):
        return RangeArrayRecord(path, files.RangeReader())
    from array_record.python import array_record_module

    reader = array_record_module.ArrayRecordReader(
        path, options=_OPTIONS, file_reader_buffer_size=2**15
    )
    if not reader.ok():
        raise UserError(f"{path} is not an ArrayRecord file, or damaged: {_reason(reader)}")
    return reader


def _reason(reader: Any) -> str:
    """What is wrong with a file; the reader tells only when it is read."""
    try:
        reader.read([0])
    except Exception as error:  # The C++ library raises plain RuntimeErrors.
        return str(error)
    return "it is cut off"
