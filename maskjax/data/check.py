"""A whole data set looked through: broken files, duplicates, sizes, modes, classes."""

import collections
import csv
import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from maskjax.data.examples import read_example
from maskjax.data.inspect import Facts
from maskjax.data.source import Source

_FIELDS = [field.name for field in dataclasses.fields(Facts)]
# Sides are counted in bins that double: 0..31, 32..63, ...
_SMALLEST_BIN = 32


class Summary:
    """Adds up ``Facts``.

    Args:
        source: what they are about.

    Attributes:
        broken: facts with a problem.
    """

    def __init__(self, source: Source):
        self._source = source
        self.count, self.bytes = 0, 0
        self.broken: list[Facts] = []
        self._first: dict[int, int] = {}  # digest -> number of the first example that has it
        self._again: dict[int, list[str]] = {}  # digest -> ids, of those that several have
        self._counts = {
            key: collections.Counter() for key in ("format", "mode", "remarks", "short_side")
        }
        self._labels: collections.Counter[int] = collections.Counter()
        self._sizes: collections.Counter[tuple[int, int]] = collections.Counter()

    def add(self, facts: Facts) -> None:
        """One more example."""
        self.count += 1
        self.bytes += facts.bytes
        if facts.label is not None:
            self._labels[facts.label] += 1
        if facts.digest:
            first = self._first.setdefault(facts.digest, facts.number)
            if first != facts.number:
                if facts.digest not in self._again:
                    # Keeping every id would cost more than reading some examples again.
                    self._again[facts.digest] = [read_example(self._source, first)["id"]]
                self._again[facts.digest].append(facts.id)
        if facts.problem:
            self.broken.append(facts)
            return
        self._counts["format"][facts.format] += 1
        self._counts["mode"][facts.mode] += 1
        self._counts["remarks"].update(facts.remarks)
        if facts.height:
            self._sizes[facts.height, facts.width] += 1
            self._counts["short_side"][_bin(min(facts.height, facts.width))] += 1

    @property
    def duplicates(self) -> list[list[str]]:
        """Ids of examples whose content is the same, byte by byte."""
        return list(self._again.values())

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "examples": self.count,
            "bytes": self.bytes,
            "broken": [{"id": one.id, "problem": one.problem} for one in self.broken],
            "duplicates": self.duplicates,
            "classes": self.classes(),
            "size": self.size(),
            **{key: dict(counts.most_common()) for key, counts in self._counts.items()},
        }

    def classes(self) -> dict[str, int]:
        """{name, or number, of a class: how many examples}, those without any included."""
        names = self._source.class_names
        if names is None:
            return {str(label): count for label, count in sorted(self._labels.items())}
        return {name: self._labels[number] for number, name in enumerate(names)}

    def size(self) -> dict[str, list[int]]:
        """(height, width) that is the smallest, the median and the largest by area."""
        if not self._sizes:
            return {}
        sizes = sorted(self._sizes, key=math.prod)
        total, seen, median = sum(self._sizes.values()), 0, sizes[-1]
        for size in sizes:
            seen += self._sizes[size]
            if 2 * seen >= total:
                median = size
                break
        return {"smallest": list(sizes[0]), "median": list(median), "largest": list(sizes[-1])}


def describe(source: Source, first: Facts) -> list[str]:
    """What can be said without reading more than one example."""
    names = source.class_names
    classes = "no class names" if names is None else f"{len(names)} classes: {_some(names)}"
    about = f"  {first.id}: {first.format} {first.mode} {first.height} x {first.width}"
    label = "" if first.label is None else f", label {first.label}"
    return [f"{len(source):,} examples, {classes}", first.problem or f"{about}{label}"]


def write_csv(rows: Iterable[Facts], file: TextIO) -> None:
    """One line an example, beginning with the names of the columns."""
    writer = csv.writer(file)
    writer.writerow(_FIELDS)
    for facts in rows:
        values = dataclasses.asdict(facts)
        values["remarks"] = "; ".join(facts.remarks)
        values["digest"] = f"{facts.digest:016x}" if facts.digest else ""
        writer.writerow([values[name] for name in _FIELDS])


def lines(summary: Summary, limit: int = 10) -> list[str]:
    """The summary for people; lists are cut to their first ``limit`` entries."""
    found = summary.as_dict()
    text = [f"{summary.count:,} examples, {summary.bytes / 1e6:,.1f} MB"]
    if found["size"]:
        sizes = (f"{key} {h} x {w}" for key, (h, w) in found["size"].items())
        text.append(f"height x width: {', '.join(sizes)}")
    for key in ("short_side", "format", "mode", "remarks"):
        if found[key]:
            text.append(f"{key.replace('_', ' ')}: {_pairs(found[key], limit)}")
    if classes := found["classes"]:
        text += _class_lines(classes, limit)
    duplicates = found["duplicates"]
    again = sum(len(group) - 1 for group in duplicates)
    text.append(f"duplicates: {again}" + (f" of {len(duplicates)} examples" if again else ""))
    text += _cut([f"  {' = '.join(_cut(group, 4, ' '))}" for group in duplicates], limit)
    text.append(f"broken: {len(summary.broken)}")
    text += _cut([f"  {one.problem}" for one in summary.broken], limit)
    return text


def _class_lines(classes: dict[str, int], limit: int) -> list[str]:
    counts = sorted(classes.items(), key=lambda pair: (-pair[1], pair[0]))
    empty = [name for name, count in counts if count == 0]
    text = [f"classes: {len(classes)}, {counts[-1][1]} to {counts[0][1]} examples each"]
    if counts[0][1] != counts[-1][1]:
        text.append(f"  {_pairs(dict(counts), limit)}")
    if empty:
        text.append(f"  without examples: {', '.join(_cut(empty, limit, ''))}")
    return text


def _some(names: Sequence[str]) -> str:
    return ", ".join(_cut(names, 5, ""))


def _pairs(counts: dict[str, int], limit: int) -> str:
    return ", ".join(_cut([f"{key} {count:,}" for key, count in counts.items()], limit, ""))


def _cut(entries: Sequence[str], limit: int, indent: str = "  ") -> list[str]:
    more = [f"{indent}... {len(entries) - limit} more"] if len(entries) > limit else []
    return [*entries[:limit], *more]


def _bin(side: int) -> str:
    low = 0 if side < _SMALLEST_BIN else 2 ** int(math.log2(side))
    return f"{low}-{max(_SMALLEST_BIN, 2 * low) - 1}"
