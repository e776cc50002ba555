"""The evaluation iterator: every image exactly once, in the order of the source."""

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from maskjax.data.examples import (
    Bad,
    ExampleError,
    Tally,
    read_example,
    require_on_error,
    transformed,
)
from maskjax.data.fields import Fields, as_fields, stack
from maskjax.data.random import position_words
from maskjax.data.source import Source
from maskjax.errors import UserError

log = logging.getLogger(__name__)


class Row(NamedTuple):
    """An example of a batch; no fields = padding, or an example that was left out."""

    id: str
    fields: Fields | None
    bad: Bad | None = None


def evaluation_batches(
    source: Source,
    transform: Callable[[dict[str, Any]], np.ndarray | dict[str, np.ndarray]],
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    ids: bool = False,
    on_error: str = "error",
    bad_share: float = 0.05,
) -> Iterator[dict[str, Any]]:
    """Batches of one process that together, over all processes, hold every image exactly once.

    Batch n is the images n*batch_size .. (n+1)*batch_size - 1; with b = batch_size / process_count,
    process p holds the rows p*b .. (p+1)*b - 1 of it. Every process yields the same number of
    batches, ceil(len(source) / batch_size), all full: what goes beyond the end is padding.

    Args:
        source: see ``data.source``.
        transform: example -> uint8[H, W, C], or a dict of named arrays; all of one shape.
        batch_size: images in a batch over all processes, a multiple of process_count.
        process_index, process_count: which process this is, of how many.
        ids: adds "id", a list of b strings ("" for padding).
        on_error: an example that cannot be used is an "error", or "skip" leaves it out: its row
            looks like padding, and a warning names it.
        bad_share: with "skip", the share of bad examples (beyond the first 30) that is an error.

    Returns:
        An iterator over dicts: "image" uint8[b, H, W, C], or the fields [b, ...] that the transform
        returns (0 for padding); "label" int32[b] if the source has labels (-1 for padding);
        "valid" bool[b] (False for padding); "position" uint32[b, 2]: high and low word of the
        image's number in the source; padding counts on.

    Raises:
        UserError: a number is out of range, or the source is empty; during iteration: an example
            that cannot be used, or too many of them.
    """
    if not 0 <= process_index < process_count:
        raise UserError(f"process_index {process_index} is not one of {process_count} processes")
    if batch_size < 1 or batch_size % process_count:
        raise UserError(
            f"the evaluation batch must be a positive multiple of the {process_count} processes,"
            f" found {batch_size}"
        )
    require_on_error(on_error, "on_error")
    if len(source) == 0:
        raise UserError("the evaluation source is empty")
    rows = batch_size // process_count
    starts = range(process_index * rows, len(source) + process_index * rows, batch_size)
    blocks = [range(start, start + rows) for start in starts]
    tally = Tally(bad_share, "evaluation examples", "config.data.bad_share")
    return _batches(_Reader(source, transform, on_error), blocks, tally, ids)


class _Reader:
    """Reads examples by number; a row is (id, fields), or (id, None) for one to leave out."""

    def __init__(self, source: Source, transform, on_error: str):
        self.source, self.transform, self.on_error = source, transform, on_error

    def __call__(self, number: int) -> Row:
        try:
            return self._good(number)
        except ExampleError as error:
            if self.on_error == "error":
                raise
            log.warning("left out of the evaluation: %s", error)
            return Row(error.name, None, Bad(number, error.name, str(error)))

    def first(self) -> Fields:
        """The fields of the first usable example."""
        rows = (self(number) for number in range(len(self.source)))
        fields = next((row.fields for row in rows if row.fields is not None), None)
        if fields is None:
            raise UserError("no example of the evaluation source can be used")
        return fields

    def _good(self, number: int) -> Row:
        example = read_example(self.source, number)
        fields = as_fields(transformed(self.transform, example), example["id"])
        if "label" in example:
            fields["label"] = np.int32(example["label"])
        return Row(example["id"], fields)


def _batches(reader: _Reader, blocks: list[range], tally: Tally, ids: bool):
    total, known = len(reader.source), None
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:

        def submit(block: range) -> list[Future]:
            return [pool.submit(reader, n) for n in range(block.start, min(block.stop, total))]

        ahead = submit(blocks[0])
        try:
            for block, following in zip(blocks, [*blocks[1:], range(0)], strict=True):
                futures, ahead = ahead, submit(following)
                rows = [future.result() for future in futures]
                bad = [row.bad for row in rows if row.bad]
                tally.add(len(rows) - len(bad), bad)
                rows += [Row("", None)] * (len(block) - len(rows))
                known = known or next((row.fields for row in rows if row.fields), None)
                if known is None:  # A process without any image pads as well.
                    known = reader.first()
                yield _assemble(rows, block, _blank(known), ids)
        finally:
            pool.shutdown(cancel_futures=True)


def _blank(fields: Fields) -> Fields:
    """What padding looks like."""
    zeros = {name: np.zeros_like(value) for name, value in fields.items()}
    return {**zeros, "label": np.int32(-1)} if "label" in fields else zeros


def _assemble(rows: list[Row], block: range, blank: Fields, ids: bool) -> dict[str, Any]:
    valid = [row.fields is not None for row in rows]
    batch = stack([row.fields or blank for row in rows], [row.id for row in rows])
    batch["valid"] = np.array(valid)
    batch["position"] = position_words(np.array(block))
    if ids:
        batch["id"] = [row.id if good else "" for row, good in zip(rows, valid, strict=True)]
    return batch
