"""bad_examples.jsonl of a run: the training examples that were skipped, one JSON object a line.

Each process writes a file of its own, whole and at once; process 0 puts them together. An example
is listed once, however often the run met it.
"""

import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from maskjax.observe.files import write_atomic

NAME = "bad_examples.jsonl"
_PARTS = "bad_examples"

Entry = Mapping[str, Any]


class BadExamples:
    """The list of a run.

    Args:
        workdir: folder of the run.
        process_index: which process this is.
        keep: the run goes on: what it has listed already stays.
    """

    def __init__(self, workdir: str | os.PathLike, process_index: int = 0, *, keep: bool = False):
        self._workdir, self._index = pathlib.Path(workdir), process_index
        if not keep:
            for path in [self._own] if process_index else [self.path, *self._parts()]:
                path.unlink(missing_ok=True)
        self._known = {entry["id"]: entry for entry in read_bad_examples(self._own)}

    @property
    def path(self) -> pathlib.Path:
        """The list of all processes."""
        return self._workdir / NAME

    def add(self, entries: Iterable[Entry]) -> list[Entry]:
        """Lists those of this process's examples that are new, and returns them.

        Args:
            entries: each with "id", "reason", and "position", that of the row it was read for.
        """
        new: dict[str, Entry] = {}
        for entry in entries:
            if entry["id"] not in self._known:
                new.setdefault(entry["id"], entry)
        if new:
            self._known |= new
            _write(self._own, self._known.values())
        return list(new.values())

    def merge(self) -> None:
        """Puts the lists of all processes together; call it on process 0."""
        files = [self.path, *self._parts()]
        entries = [entry for path in files for entry in read_bad_examples(path)]
        merged = {}
        for entry in sorted(entries, key=lambda entry: entry["position"]):
            merged.setdefault(entry["id"], entry)
        if merged:
            _write(self.path, merged.values())

    @property
    def _own(self) -> pathlib.Path:
        return self._workdir / _PARTS / f"process-{self._index}.jsonl"

    def _parts(self) -> list[pathlib.Path]:
        return sorted((self._workdir / _PARTS).glob("process-*.jsonl"))


def read_bad_examples(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The entries of a list; [] if there is no file."""
    path = pathlib.Path(path)
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def _write(path: pathlib.Path, entries: Iterable[Entry]):
    lines = [json.dumps(dict(entry), ensure_ascii=False) + "\n" for entry in entries]
    write_atomic(path, "".join(lines))
