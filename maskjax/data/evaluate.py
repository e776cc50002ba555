"""The evaluation iterator: every image exactly once, in the order of the source."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from maskjax.data.fields import as_fields, stack
from maskjax.data.random import position_words
from maskjax.data.source import Source
from maskjax.errors import UserError

Row = dict[str, Any]


def evaluation_batches(
    source: Source,
    transform: Callable[[Row], np.ndarray | dict[str, np.ndarray]],
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    ids: bool = False,
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

    Returns:
        An iterator over dicts: "image" uint8[b, H, W, C], or the fields [b, ...] that the transform
        returns (0 for padding); "label" int32[b] if the source has labels (-1 for padding);
        "valid" bool[b] (False for padding); "position" uint32[b, 2]: high and low word of the
        image's number in the source; padding counts on.

    Raises:
        UserError: a number is out of range, or the source is empty; during iteration: an image that
            cannot be read.
    """
    if not 0 <= process_index < process_count:
        raise UserError(f"process_index {process_index} is not one of {process_count} processes")
    if batch_size < 1 or batch_size % process_count:
        raise UserError(
            f"the evaluation batch must be a positive multiple of the {process_count} processes,"
            f" found {batch_size}"
        )
    if len(source) == 0:
        raise UserError("the evaluation source is empty")
    rows = batch_size // process_count
    starts = range(process_index * rows, len(source) + process_index * rows, batch_size)
    blocks = [range(start, start + rows) for start in starts]
    return _batches(source, transform, blocks, ids)


def _batches(source: Source, transform, blocks: list[range], ids: bool) -> Iterator[dict[str, Any]]:
    # Padding needs the shape of an image, also on a process that has none of the images.
    blank = _blank(_read(source, transform, 0))
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:

        def submit(block: range) -> list[Future]:
            numbers = range(block.start, min(block.stop, len(source)))
            return [pool.submit(_read, source, transform, number) for number in numbers]

        ahead = submit(blocks[0])
        try:
            for block, following in zip(blocks, [*blocks[1:], range(0)], strict=True):
                futures, ahead = ahead, submit(following)
                yield _assemble([future.result() for future in futures], block, blank, ids)
        finally:
            pool.shutdown(cancel_futures=True)


def _read(source: Source, transform, number: int) -> Row:
    example = source[number]
    fields = as_fields(transform(example), example["id"])
    if "label" in example:
        fields["label"] = np.int32(example["label"])
    return {"id": example["id"], "fields": fields}


def _assemble(rows: list[Row], block: range, blank: Row, ids: bool) -> dict[str, Any]:
    padding = len(block) - len(rows)
    rows = rows + [blank] * padding
    batch = stack([row["fields"] for row in rows], [row["id"] for row in rows])
    batch["valid"] = np.arange(len(block)) < len(block) - padding
    batch["position"] = position_words(np.array(block))
    if ids:
        batch["id"] = [row["id"] for row in rows]
    return batch


def _blank(row: Row) -> Row:
    fields = {name: np.zeros_like(value) for name, value in row["fields"].items()}
    if "label" in fields:
        fields["label"] = np.int32(-1)
    return {"id": "", "fields": fields}
