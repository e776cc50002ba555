"""Rows of Parquet files, a group at a time."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from maskjax.data import files
from maskjax.data.cache import Index
from maskjax.data.recent import Recent
from maskjax.errors import UserError

# Decoded row groups that one process keeps.
CACHE_BYTES = 256 * 2**20


class RowGroups:
    """A ``records.Reader`` of rows.

    Reading a row reads its whole group, so neighbours are free and far jumps are dear; the groups
    used last stay in memory, up to ``CACHE_BYTES`` in each process.

    Args:
        indices: path -> what ``index_parquet`` gave.
        columns: what a row holds, in this order; None: a row is the value of the first column.
    """

    def __init__(self, indices: Mapping[str, Index], columns: tuple[str, ...] | None = None):
        self.indices, self.columns = indices, columns
        self._footers = Recent(1024)
        self._groups = Recent(CACHE_BYTES, _num_bytes)

    def read(self, path: str, number: int) -> Any:
        """Row ``number`` of a file: a tuple of the values of ``columns``, or one value.

        Raises:
            UserError: it cannot be read.
        """
        ends = np.cumsum(self.indices[path]["rows"])
        group = int(np.searchsorted(ends, number, side="right"))
        table = self._groups.get((path, group), lambda: self._load(path, group))
        row = number - int(ends[group]) + int(self.indices[path]["rows"][group])
        values = tuple(column[row].as_py() for column in table.columns)
        return values[0] if self.columns is None else values

    def _load(self, path: str, group: int) -> Any:
        with parquet_file(path, self._footers.get(path, lambda: read_footer(path))) as file:
            first = [file.schema_arrow.names[0]]
            columns = first if self.columns is None else list(self.columns)
            if lacking := set(columns) - set(file.schema_arrow.names):
                raise UserError(f"{path} has no column {min(lacking)!r}")
            table = file.read_row_group(group, columns=columns, use_threads=False)
        if table.num_rows != self.indices[path]["rows"][group]:
            raise UserError(f"{path} was replaced after it was looked at")
        return table.select(columns)


def index_parquet(file: files.Entry) -> Index:
    """rows: int64[G], the number of rows in each row group."""
    footer = read_footer(file.path)
    groups = [footer.row_group(n).num_rows for n in range(footer.num_row_groups)]
    return {"rows": np.array(groups, np.int64)}


def read_footer(path: str) -> Any:
    """``pyarrow.parquet.FileMetaData`` of a file."""
    with parquet_file(path) as file:
        return file.metadata


@contextmanager
def parquet_file(path: str, footer: Any = None) -> Iterator[Any]:
    """An open ``pyarrow.parquet.ParquetFile``.

    Raises:
        UserError: it cannot be read, or is no Parquet file; also from inside the block.
    """
    import pyarrow
    from pyarrow import parquet

    with files.named_errors("read", path), files.open_file(path, ahead=False) as raw:
        try:
            yield parquet.ParquetFile(
                raw, metadata=footer, pre_buffer=True, page_checksum_verification=True
            )
        except pyarrow.ArrowException as error:
            raise UserError(f"{path} is not a Parquet file, or damaged: {error}") from error


def _num_bytes(table: Any) -> int:
    return table.nbytes
