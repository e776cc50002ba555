"""CSV files that list examples: one a line, named columns."""

import csv
import io
from typing import NamedTuple

import numpy as np

from maskjax.data import files
from maskjax.errors import UserError


class Table(NamedTuple):
    """columns: {name: texts}; labels: int32[N] or None; class_names: or None."""

    columns: dict[str, list[str]]
    labels: np.ndarray | None
    class_names: tuple[str, ...] | None


def read_table(path: str, required: tuple[str, ...], split: str) -> Table:
    """The lines of a split.

    The first line names the columns: those of ``required``, then any of "label" (the number or the
    name of a class) and "split". It may be left out where there are only the required columns, or
    these and a label. Without "split", every split is the whole file.

    Raises:
        UserError: the file cannot be read; a line has a wrong number of cells, or an empty one;
            there is no line of the split.
    """
    rows = _rows(path)
    named = set(required) <= {cell.lower() for cell in rows[0][1]}
    header = [cell.lower() for cell in rows[0][1]] if named else [*required, "label"]
    header = header[: len(rows[0][1])]
    if unknown := sorted(set(header) - {*required, "label", "split"}):
        raise UserError(f"{path}: unknown column {unknown[0]!r}; there are {_names(required)}")
    lines = rows[1:] if named else rows
    for number, cells in lines:
        if len(cells) != len(header) or not all(cells):
            raise UserError(
                f"{path}, line {number}: wants {','.join(header)}, found {','.join(cells)!r}"
            )
    table = {name: [cells[n] for _, cells in lines] for n, name in enumerate(header)}
    labels, names = _numbers(table.pop("label", None))
    splits = table.pop("split", [split] * len(lines))
    chosen = [n for n, name in enumerate(splits) if split in (name, "all")]
    if not chosen:
        known = ", ".join(sorted(set(splits))) or "no line at all"
        raise UserError(f"{path} has no split {split!r}; it has {known}")
    columns = {name: [texts[n] for n in chosen] for name, texts in table.items()}
    return Table(columns, None if labels is None else labels[chosen], names)


def _rows(path: str) -> list[tuple[int, list[str]]]:
    try:
        text = files.read(path).decode("utf-8-sig")
        rows = list(enumerate(csv.reader(io.StringIO(text)), 1))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    rows = [(number, [cell.strip() for cell in row]) for number, row in rows if any(row)]
    if not rows:
        raise UserError(f"{path} is empty")
    return rows


def _numbers(texts: list[str] | None) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    """Labels as numbers: as they are, or names in sorted order, over all splits."""
    if texts is None:
        return None, None
    if all(text.isdecimal() for text in texts):
        return np.array(texts, np.int32), None
    names = tuple(sorted(set(texts)))
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers[text] for text in texts], np.int32), names


def _names(required: tuple[str, ...]) -> str:
    return ", ".join((*required, "label", "split"))
