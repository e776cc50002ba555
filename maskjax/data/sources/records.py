"""Sources over files of records: which record is where, and what reads it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from maskjax.errors import UserError


class Piece(NamedTuple):
    """Records skip .. skip + take - 1 of a file."""

    path: str
    skip: int
    take: int


class Reader(Protocol):
    """Reads a record (bytes, or a row) by file and number; thread-safe, picklable, opens lazily."""

    def read(self, path: str, number: int) -> Any: ...


class RecordSource:
    """A ``Source`` over records.

    Args:
        pieces: what it consists of, in order.
        reader: see ``Reader``.
        decode: record -> example with "image", and "label" and "id" if it has them; picklable. The
            id of the source is FILE__NUMBER, and /ID behind it if the record has one.
        class_names: one name per label, or None.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        reader: Reader,
        decode: Callable[[Any], dict[str, Any]],
        class_names: tuple[str, ...] | None = None,
    ):
        self.pieces, self.reader, self.decode = pieces, reader, decode
        self.class_names = class_names
        self._ends = np.cumsum([piece.take for piece in pieces])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = range(len(self))[index]
        which = int(np.searchsorted(self._ends, index, side="right"))
        piece = self.pieces[which]
        number = piece.skip + index - (int(self._ends[which]) - piece.take)
        name = f"{piece.path.rpartition('/')[2]}__{number}"
        record = self.reader.read(piece.path, number)
        try:
            example = self.decode(record)
        except UserError as error:
            raise UserError(f"record {number} of {piece.path}: {error}") from error
        example["id"] = f"{name}/{example['id']}" if "id" in example else name
        if self.class_names and not 0 <= example.get("label", 0) < len(self.class_names):
            raise UserError(
                f"record {number} of {piece.path}: label {example['label']} is none of the"
                f" {len(self.class_names)} classes"
            )
        return example
