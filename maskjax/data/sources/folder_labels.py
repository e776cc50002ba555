"""Which number a label of a folder source has, the same in every split of that folder."""

import csv

import numpy as np

from maskjax.data import files
from maskjax.data.sources.checks import SPLITS
from maskjax.errors import UserError

LABELS_FILE = "labels.csv"


def class_names(root: str, folder: str) -> tuple[str, ...]:
    """Sorted names of the class folders in ``folder`` and in the other splits below root.

    Numbering each split by its own folders would silently shift the labels of a split that lacks a
    class, so the usual splits are looked at together with ``folder``. Empty class folders count.

    Raises:
        UserError: the other splits have class folders, and ``folder`` has none of them.
    """
    own, others = _directories([folder]), _directories(_other_splits(root, folder))
    if others and not set(own) & set(others):
        raise UserError(
            f"{folder} holds {_few(own)}, of which none is a class of the other splits of {root}"
            f" ({_few(others)}). Images without class folders take their labels from {LABELS_FILE}"
        )
    return tuple(sorted({*own, *others}))


def read_labels(folder: str) -> dict[str, str]:
    """labels.csv as {file: label}: two columns, with or without the header line "file,label"."""
    path = files.join(folder, LABELS_FILE)
    labels: dict[str, str] = {}
    try:
        lines = files.read(path).decode("utf-8-sig").splitlines()
        rows = [(number, row) for number, row in enumerate(csv.reader(lines), 1) if row]
    except (UnicodeDecodeError, csv.Error) as error:
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
    texts: list[str], root: str, folder: str
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
            f"{files.join(folder, LABELS_FILE)}: label {unknown[0]!r} is none of the {len(names)}"
            f" classes of {root} ({_few(names)})"
        )
    return np.array([numbers[text] for text in texts], np.int32), names


def _names_in_files(root: str, folder: str) -> tuple[str, ...]:
    splits = [folder, *_other_splits(root, folder)]
    labelled = [split for split in splits if files.is_file(files.join(split, LABELS_FILE))]
    return tuple(sorted({text for split in labelled for text in read_labels(split).values()}))


def _other_splits(root: str, folder: str) -> list[str]:
    if folder == root:
        return []
    there = [files.join(root, name) for name in files.scan(root)[1] if name in SPLITS]
    return [split for split in there if split != folder]


def _directories(folders: list[str]) -> tuple[str, ...]:
    return tuple(sorted({name for folder in folders for name in files.scan(folder)[1]}))


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
