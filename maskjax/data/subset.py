"""The examples of a source that a text file names."""

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

from maskjax.data import files
from maskjax.data.ids import source_ids
from maskjax.data.source import Source
from maskjax.data.wrap import select
from maskjax.errors import UserError


def select_ids(source: Source, path: str) -> Source:
    """The examples of a source that a text file names, in the order of the source.

    One example a line: its id, or the last part of its id ("n01440764_10026.JPEG"), with or without
    the extension, as in the lists of 1 % and 10 % of ImageNet that SimCLR uses. Empty lines and
    lines that start with "#" are skipped.

    Raises:
        UserError: the file cannot be read or names nothing; a name is unknown, ambiguous or twice.
    """
    names = _read_names(path)
    found = find_ids(source_ids(source), names)
    where = f"config.data.subset = {path!r}"
    if unknown := [name for name, numbers in zip(names, found, strict=True) if not numbers]:
        raise UserError(
            f"{where} names {len(unknown)} of {len(names)} examples that the data does not have:"
            f" {_some(unknown)}; its ids look like {source[0]['id']!r}"
        )
    if vague := [name for name, numbers in zip(names, found, strict=True) if len(numbers) > 1]:
        raise UserError(
            f"{where}: {_some(vague)} could be several examples; write whole ids, such as"
            f" {source[0]['id']!r}"
        )
    numbers = [numbers[0] for numbers in found]
    first: dict[int, str] = {}
    for number, name in zip(numbers, names, strict=True):
        if number in first:
            raise UserError(f"{where} names an example twice: {first[number]!r} and {name!r}")
        first[number] = name
    return select(source, sorted(numbers))


def find_ids(ids: Sequence[str], names: Iterable[str]) -> list[list[int]]:
    """For each name the numbers of the ids it fits: by whole id, else last part, else stem."""
    last, stem = (lambda text: PurePosixPath(text).name), (lambda text: PurePosixPath(text).stem)
    # What an id and a name must have in common, closest first. Names with a "/" are whole ids.
    levels = ((str, str), (last, str), (stem, str), (stem, stem))
    tables: dict[Any, dict[str, list[int]]] = {}

    def table(key) -> dict[str, list[int]]:
        if key not in tables:
            tables[key] = {}
            for number, text in enumerate(ids):
                tables[key].setdefault(key(text), []).append(number)
        return tables[key]

    def find(name: str) -> list[int]:
        tried = levels[:1] if "/" in name else levels
        hits = (table(of_id).get(of_name(name)) for of_id, of_name in tried)
        return next(filter(None, hits), [])

    return [find(name) for name in names]


def _read_names(path: str) -> list[str]:
    try:
        lines = files.read(files.absolute(path)).decode("utf-8-sig").splitlines()
    except (UserError, UnicodeDecodeError) as error:
        raise UserError(f"config.data.subset = {path!r}: {error}") from error
    names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not names:
        raise UserError(f"config.data.subset = {path!r} names no example")
    return names


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
