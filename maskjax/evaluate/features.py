"""Frozen features of a data set: one pass, every image once, in the order of the data."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
from jax import Array

from maskjax.errors import UserError
from maskjax.evaluate.hosts import gather, local_rows

HostBatch = Mapping[str, np.ndarray]
POOLS = ("mean", "cls")


class Features(NamedTuple):
    """Features of n images on the host, sorted by position; the same on every process.

    Attributes:
        cls: float32[n, D], the class token.
        mean: float32[n, D], the mean of the patch tokens.
        label: int32[n]; -1 everywhere for data without labels.
        position: uint64[n], ascending, no two alike.
    """

    cls: np.ndarray
    mean: np.ndarray
    label: np.ndarray
    position: np.ndarray

    def pooled(self, pool: str) -> np.ndarray:
        """float32[n, D] of "mean" or "cls".

        Raises:
            UserError: for another pool.
        """
        if pool not in POOLS:
            raise UserError(f"config.evaluate.pool = {pool!r}: there are {' and '.join(POOLS)}")
        return getattr(self, pool)

    def labels(self, what: str) -> np.ndarray:
        """int32[n] for an evaluator that needs them; `what` names it in the error.

        Raises:
            UserError: if the data has no labels.
        """
        if len(self.label) == 0 or self.label.min() < 0:
            raise UserError(f"{what} needs labels, and the data has none (or there are no images)")
        return self.label


def extract(
    encode_fn: Callable[[HostBatch], Mapping[str, Array]], batches: Iterable[HostBatch]
) -> Features:
    """Runs an encoder over a finite evaluation iterator; padding is dropped.

    With several processes each one passes its own batches, as many as every other.

    Args:
        encode_fn: batch -> {"cls": [b, D], "mean": [b, D], ...}, numpy or device arrays, global or
            local; jit is the caller's.
        batches: {fields such as "image" [b, ...], "position" uint32[b, 2], "valid" bool[b],
            "label" int[b] (optional)}.

    Raises:
        UserError: if there are no batches.
        ValueError: if an image comes twice, which would be a fault of the iterator, or the encoder
            gives another number of rows than it got images.
    """
    parts: list[dict[str, np.ndarray]] = []
    for batch in batches:
        encoded = encode_fn(batch)
        pools = {name: np.float32(local_rows(encoded[name])) for name in POOLS}
        if len(pools["mean"]) != (size := len(batch["position"])):
            raise ValueError(
                f"the encoder gave {len(pools['mean'])} rows for {size} images; over several"
                " processes its outputs must be sharded over the batch (out_shardings)"
            )
        parts.append(pools | _facts(batch))
    if not parts:
        raise UserError("there are no images to evaluate")
    rows = {name: gather(np.concatenate([part[name] for part in parts])) for name in parts[0]}
    return _arrange(rows)


def pixels_of(batch: HostBatch) -> np.ndarray:
    """The pictures of a batch, [b, ..., C]: images, clips, or the colours of several modalities.

    Raises:
        UserError: if there are none.
    """
    found = next((batch[name] for name in ("image", "video", "rgb") if name in batch), None)
    if found is None:
        raise UserError("the data has no pictures; leave evaluators out that need them")
    return np.asarray(found)


def join_position(words: np.ndarray) -> np.ndarray:
    """uint32[n, 2] (high, low) -> uint64[n]."""
    words = np.asarray(words, np.uint64)
    return (words[:, 0] << np.uint64(32)) | words[:, 1]


def _facts(batch: HostBatch) -> dict[str, np.ndarray]:
    size = len(batch["position"])
    label = batch.get("label", np.full(size, -1))
    valid = batch.get("valid", np.ones(size, bool))
    # Words, not uint64: jax would cut these down on the way between processes.
    words = np.asarray(batch["position"], np.uint32)
    return {"label": np.int32(label), "valid": np.asarray(valid, bool), "words": words}


def _arrange(rows: dict[str, np.ndarray]) -> Features:
    keep = np.flatnonzero(rows["valid"])
    position = join_position(rows["words"][keep])
    order = np.argsort(position, kind="stable")
    position, keep = position[order], keep[order]
    if len(position) > 1 and (position[1:] == position[:-1]).any():
        raise ValueError("the evaluation iterator gave the same image twice")
    return Features(rows["cls"][keep], rows["mean"][keep], rows["label"][keep], position)
