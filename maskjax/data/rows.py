"""Rows of the training stream: example numbers and positions -> named arrays."""

from collections.abc import Callable
from typing import Any

import numpy as np

from maskjax.data.examples import (
    IN_A_ROW,
    Bad,
    ExampleError,
    listing,
    read_example,
    transformed,
)
from maskjax.data.fields import Fields, as_fields, stack
from maskjax.data.random import host_rng, position_words
from maskjax.data.source import Source
from maskjax.data.workers import Notes
from maskjax.errors import UserError

Made = np.ndarray | dict[str, np.ndarray]
Transform = Callable[[dict[str, Any], np.random.Generator], Made]
BAD = "maskjax/bad"


class RowMaker:
    """(number of an example, positions that show it) -> one row per position; picklable.

    The draws of a row depend on its position only, so that a repeated image gets new ones. With
    several views of each example, it also has "shared_rng": draws that its views have in common.

    Args:
        source, transform, views: see ``data.train.train_iterator``.
        seed: of the draws, and of the order.
        on_error: "error", or "skip" to take the next usable example of the source instead.
        notes: of what is being read.
    """

    def __init__(
        self,
        source: Source,
        transform: Transform,
        *,
        seed: int,
        views: int,
        on_error: str,
        notes: Notes,
    ):
        self.source, self.transform, self.seed, self.views = source, transform, seed, views
        self.on_error, self.notes = on_error, notes

    def __call__(self, number: int, positions: range) -> tuple[list[Fields], str, list[Bad]]:
        """The rows, the id of the example they show, and the examples that were passed over.

        Raises:
            UserError: the example cannot be used; with "skip", nor can the many that follow it.
        """
        bad: list[Bad] = []
        for step in range(min(IN_A_ROW, len(self.source))):
            candidate = (number + step) % len(self.source)
            self.notes.write(f"example {candidate}")
            try:
                rows, name = self._rows(candidate, positions)
            except ExampleError as error:
                if self.on_error == "error":
                    raise
                bad.append(Bad(positions.start, error.name, str(error)))
                continue
            self.notes.write("")
            return rows, name, bad
        raise UserError(
            f"{len(bad)} training examples in a row cannot be used, the first of them:\n"
            + listing(bad)
        )

    def _rows(self, number: int, positions: range) -> tuple[list[Fields], str]:
        example = read_example(self.source, number)
        name = example["id"]
        self.notes.write(name)
        rows = []
        for made, position in zip(self._views(example, positions), positions, strict=True):
            row = as_fields(made, name)
            row["position"] = position_words(position)
            if "label" in example:
                row["label"] = np.int32(example["label"])
            rows.append(row)
        return rows, name

    def _views(self, example: dict[str, Any], positions: range) -> list[Made]:
        rngs = [host_rng(self.seed, "augment", position) for position in positions]
        if len(rngs) > 1 and hasattr(self.transform, "views"):  # decodes once
            return transformed(self.transform.views, self._shared(example, positions), rngs)
        return [transformed(self.transform, self._shared(example, positions), rng) for rng in rngs]

    def _shared(self, example: dict[str, Any], positions: range) -> dict[str, Any]:
        if self.views == 1:
            return example
        image = positions.start // self.views
        return {**example, "shared_rng": host_rng(self.seed, "augment/views", image)}


class Chunk:
    """Some consecutive rows on their way to the batch."""

    def __init__(self):
        self.rows: list[Fields] = []
        self.names: list[str] = []
        self.bad: list[Bad] = []

    def add(self, rows: list[Fields], name: str, bad: list[Bad]) -> None:
        """More rows of one example, and the examples that were passed over for it."""
        self.rows += rows
        self.names += [name] * len(rows)
        self.bad += bad

    def stacked(self) -> dict[str, Any]:
        """{field: [rows, ...]}, and under ``BAD`` the list of bad examples.

        Raises:
            UserError: rows differ in fields, shapes or types.
        """
        # As plain tuples under one key: what goes through a pipe must not depend on our classes.
        return {**stack(self.rows, self.names), BAD: [tuple(one) for one in self.bad]}
