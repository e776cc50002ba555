"""Which number a label of a folder source has, the same in every split of that folder."""

import csv
import os
from pathlib import Path

import numpy as np

from maskjax.errors import UserError

LABELS_FILE = "labels.csv"
_SPLITS = ("train", "val", "valid", "validation", "test")


def class_names(root: Path, folder: Path) -> tuple[str, ...]:
    """Sorted names of the class folders in ``folder`` and in the other splits below root.

    Numbering each split by its own folders would silently shift the labels of a split that lacks a
    class, so the usual splits are looked at together with ``folder``. Empty class folders count.
    """
    return _directories([folder, *_other_splits(root, folder)])


def read_labels(folder: Path) -> dict[str, str]:
    """labels.csv as {file: label}: two columns, with or without the header line "file,label"."""
    path = folder / LABELS_FILE
    labels: dict[str, str] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            rows = [(number, row) for number, row in enumerate(csv.reader(lines), 1) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    for number, row in rows:
        cells = [cell.strip() for cell in row]
        if number == 1 and [cell.lower() for cell in cells] == ["file", "label"]:
            continue
        if len(cells) != 2 or not all(cells):
            raise UserError(f"{path}, line {number}: wants file,label, found {','.join(row)!r}")
        if labels.setdefault(cells[0], cells[1]) != cells[1]:
            raise UserError(f"{path}, line {number}: {cells[0]} has two different labels")
    return labels


def to_numbers(
    texts: list[str], root: Path, folder: Path
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Labels of labels.csv as numbers.

    Next to splits with class folders, a label is the name of a class, or its number. Otherwise the
    labels are numbers, or names that are numbered in sorted order over the splits' labels.csv.

    Returns:
        int32[N] and the class names, or None where the labels are bare numbers.

    Raises:
        UserError: a label names no class.
    """
    names = _directories(_other_splits(root, folder))
    if not names:
        if all(text.isdecimal() for text in texts):
            return np.array([int(text) for text in texts], np.int32), None
        names = _names_in_files(root, folder)
    numbers = {name: number for number, name in enumerate(names)}
    if all(text.isdecimal() and int(text) < len(names) for text in texts) and not (
        numbers.keys() & set(texts)
    ):
        return np.array([int(text) for text in texts], np.int32), names
    if unknown := sorted(set(texts) - numbers.keys()):
        raise UserError(
            f"{folder / LABELS_FILE}: label {unknown[0]!r} is none of the {len(names)} classes of"
            f" {root} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
        )
    return np.array([numbers[text] for text in texts], np.int32), names


def _names_in_files(root: Path, folder: Path) -> tuple[str, ...]:
    splits = [folder, *_other_splits(root, folder)]
    files = [split for split in splits if (split / LABELS_FILE).is_file()]
    return tuple(sorted({text for split in files for text in read_labels(split).values()}))


def _other_splits(root: Path, folder: Path) -> list[Path]:
    if folder == root:
        return []
    return [root / name for name in _SPLITS if root / name != folder and (root / name).is_dir()]


def _directories(folders: list[Path]) -> tuple[str, ...]:
    names = set()
    for folder in folders:
        with os.scandir(folder) as entries:
            names |= {e.name for e in entries if not e.name.startswith(".") and e.is_dir()}
    return tuple(sorted(names))
