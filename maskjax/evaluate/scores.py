"""Scores: a number together with how it was measured; tables of them, and scores.json."""

import dataclasses
import os
import pathlib
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Literal, TextIO

from maskjax.errors import UserError
from maskjax.observe.files import as_float, read_json, write_json

NAME = "scores.json"
RANDOM_INIT, RAW_PIXELS = "random init", "raw pixels"


@dataclasses.dataclass(frozen=True)
class Score:
    """One number and its protocol; `float(score)` is the number.

    Attributes:
        name: what it is, such as "knn@20" or "linear_probe".
        value: an accuracy in 0..1, a loss, or another number, as `kind` says.
        protocol: how it was measured, in words.
        train_count: training images used; 0 if none.
        test_count: images it was measured on.
        pool: "mean" or "cls"; "" where features have no pool.
        weights: "random init", "checkpoint step N" or "raw pixels".
        kind: how to read and print the value.
        step: training step of the weights.
    """

    name: str
    value: float
    protocol: str
    train_count: int
    test_count: int
    pool: str = ""
    weights: str = RANDOM_INIT
    kind: Literal["accuracy", "loss", "number"] = "accuracy"
    step: int = 0

    def __float__(self) -> float:
        return float(self.value)

    @property
    def key(self) -> str:
        """Its key in scores.json: a later score of the same key replaces it."""
        return "/".join(filter(None, (self.name, self.pool, self.weights)))

    def shown(self) -> str:
        """The value as people read it: "80.1 %" or "0.2231"."""
        return f"{100 * self.value:.1f} %" if self.kind == "accuracy" else f"{self.value:.4g}"


def weights_name(step: int) -> str:
    """What to call the weights of a state: "random init" at step 0, else "checkpoint step N"."""
    return RANDOM_INIT if step == 0 else f"checkpoint step {step}"


def write_scores(workdir: str | os.PathLike, scores: Iterable[Score]) -> pathlib.Path:
    """Merges scores into scores.json of a run by key, atomically; returns the path.

    Raises:
        UserError: if there is a scores.json that cannot be read.
    """
    path = pathlib.Path(workdir) / NAME
    known = read_json(path) if path.is_file() else {}
    return write_json(path, known | {s.key: dataclasses.asdict(s) for s in scores})


def read_scores(workdir: str | os.PathLike) -> list[Score]:
    """The scores in scores.json of a run, sorted by key; [] if there is none.

    Raises:
        UserError: if the file is not what `write_scores` writes.
    """
    path = pathlib.Path(workdir) / NAME
    if not path.is_file():
        return []
    try:
        known = read_json(path)
        rows = [known[key] for key in sorted(known, key=_natural)]
        return [Score(**{**row, "value": as_float(row["value"])}) for row in rows]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} does not hold scores ({error}); delete it and run again"
        ) from error


def _natural(key: str) -> list[tuple[bool, int, str]]:
    """Sorts "knn@20" before "knn@100"."""
    parts = re.findall(r"\d+|\D+", key)
    return [(p.isdigit(), int(p) if p.isdigit() else 0, p) for p in parts]


def score_table(scores: Sequence[Score]) -> tuple[list[str], list[list[str]]]:
    """(head, rows): one row per score name and pool, one column per kind of weights.

    Raw pixels come first, then random init, then checkpoints by step. Raw pixels have no pool:
    they stand in the row of every pool.
    """
    rank = {RAW_PIXELS: -2, RANDOM_INIT: -1}
    steps = {score.weights: rank.get(score.weights, score.step) for score in scores}
    columns = sorted(steps, key=lambda weights: steps[weights])
    names: dict[tuple[str, str], Score] = {}
    for score in scores:
        has_pool = any(s.name == score.name and s.pool for s in scores)
        if score.pool or not has_pool:
            names[score.name, score.pool] = score
    rows = []
    for (name, pool), score in names.items():
        cells = [_cell(scores, name, pool, weights) for weights in columns]
        counts = f"{score.train_count:,} / {score.test_count:,}"
        rows.append([name, pool, *cells, counts])
    return ["score", "pool", *columns, "train / test"], rows


def print_scores(scores: Sequence[Score], stream: TextIO | None = None) -> None:
    """Prints the table and the protocols: by rich on a terminal, in plain columns elsewhere."""
    stream = stream or sys.stdout
    head, rows = score_table(scores)
    if stream.isatty():
        _print_rich(head, rows, stream)
    else:
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        for row in [head, *rows]:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            print("  ".join(cells).rstrip(), file=stream)
    for name, text in _protocols(scores).items():
        print(f"{name}: {text}", file=stream)


def _cell(scores: Sequence[Score], name: str, pool: str, weights: str) -> str:
    for score in scores:
        if score.name == name and score.weights == weights and score.pool in (pool, ""):
            return score.shown()
    return ""


def _protocols(scores: Sequence[Score]) -> dict[str, str]:
    """The protocol of each score; of the latest weights, since a probe chooses its strength."""
    latest: dict[str, str] = {}
    for score in sorted(scores, key=lambda s: (s.weights != RAW_PIXELS, s.step)):
        latest[score.name] = score.protocol
    return {name: latest[name] for name in dict.fromkeys(s.name for s in scores)}


def _print_rich(head: list[str], rows: list[list[str]], stream: TextIO) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*head, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row)
    Console(file=stream).print(table)
