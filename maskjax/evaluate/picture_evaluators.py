"""Evaluators of what a model reconstructs: pictures, mask coverage, held-out loss."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from jax import Array

from maskjax.errors import UserError
from maskjax.evaluate.evaluator import Inputs, Predict, Result, State
from maskjax.evaluate.features import HostBatch, pixels_of
from maskjax.evaluate.hosts import local_rows, total
from maskjax.observe import coverage, pictures


class _Candidate(NamedTuple):
    """An image that may come on the sheet."""

    contrast: float
    row: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """Pictures "reconstruction" (a sheet) and "mask_coverage" (a heat map), of test images.

    The sheet shows the image of most contrast of each class (of those looked at), classes evenly
    taken, whatever the model makes of it. With several processes each one makes a sheet of its own
    images; the heat map is of all.

    Attributes:
        inputs: the data.
        every: see `Evaluator`.
        num_images: on the sheet.
        num_masks: at least so many masks are counted for the heat map (or all test images').
        grid: (rows, columns) of the patches; None for square patches.
        patch_normalized: whether targets are normalised per patch; the caption says so.
    """

    inputs: Inputs
    every: int = 0
    num_images: int = 8
    num_masks: int = 1024
    grid: tuple[int, int] | None = None
    patch_normalized: bool = False
    name: str = "reconstruction"

    def run(self, predict: Predict, state: State) -> Iterator[Result]:
        """Both pictures."""
        reconstruct = self.inputs.runner(offered(predict, "reconstruct"), "reconstruct", state)
        chosen, hidden_count, seen = Chosen(self.num_images), 0, 0
        size = (0, 0)
        for batch in self.inputs.test():
            outputs = reconstruct(batch)
            valid = np.asarray(batch["valid"], bool)
            hidden = local_rows(outputs["hidden"])
            size = tuple(outputs["original"].shape[1:3])
            chosen.add(batch, {name: outputs[name] for name in ("original", "pixels", "hidden")})
            sums = total(np.append(hidden[valid].sum(0), valid.sum()))
            hidden_count, seen = hidden_count + sums[:-1], seen + int(sums[-1])
            if seen >= self.num_masks:
                break
        if not seen:
            raise UserError("there are no images to reconstruct")
        grid = self.grid or pictures.infer_grid(size, len(hidden_count))
        if rows := chosen.rows():
            yield self.name, self._sheet(rows, grid, int(state.step))
        frequency = (hidden_count / seen).reshape(grid)
        yield "mask_coverage", coverage.coverage_map(frequency, num_masks=seen)

    def _sheet(self, rows: dict[str, np.ndarray], grid: tuple[int, int], step: int) -> np.ndarray:
        return pictures.reconstruction_sheet(
            rows["original"],
            rows["pixels"],
            rows["hidden"],
            grid=grid,
            num_images=self.num_images,
            patch_normalized=self.patch_normalized,
            title=f"Reconstructions of test images, step {step:,}",
        )


class Chosen:
    """The image of most contrast of each label, for up to four times as many labels as wanted.

    Chosen by the originals alone: what the model makes of them has no say. Without labels, or with
    few of them, the other images of most contrast fill up.
    """

    def __init__(self, wanted: int):
        self._wanted = wanted
        self._best: dict[int, _Candidate] = {}
        self._others: list[_Candidate] = []

    def add(self, batch: HostBatch, outputs: Mapping[str, Array]) -> None:
        """Looks at the valid images of a batch; arrays are fetched only if one is taken."""
        arrays: dict[str, np.ndarray] = {}
        image = np.asarray(pixels_of(batch), np.float32)
        contrast = image.reshape(len(image), -1).std(1)
        for index in np.flatnonzero(batch["valid"]):
            label = int(batch["label"][index]) if "label" in batch else None
            if not self._wants(label, contrast[index]):
                continue
            arrays = arrays or {name: local_rows(array) for name, array in outputs.items()}
            # A copy: a view would keep the whole batch.
            row = {name: array[index].copy() for name, array in arrays.items()}
            self._take(label, _Candidate(float(contrast[index]), row))

    def rows(self) -> dict[str, np.ndarray]:
        """The chosen images, by label; {} if this process saw none."""
        labels = sorted(self._best)
        spread = np.linspace(0, len(labels) - 1, min(self._wanted, len(labels))).round()
        found = [self._best[labels[int(place)]] for place in spread]
        found += self._others[: self._wanted - len(found)]
        names = found[0].row if found else ()
        return {name: np.stack([candidate.row[name] for candidate in found]) for name in names}

    def _wants(self, label: int | None, contrast: float) -> bool:
        if label in self._best:
            return contrast > self._best[label].contrast or self._fills_up(contrast)
        room = label is not None and len(self._best) < 4 * self._wanted
        return room or self._fills_up(contrast)

    def _fills_up(self, contrast: float) -> bool:
        others = self._others
        return len(others) < self._wanted or contrast > others[-1].contrast

    def _take(self, label: int | None, candidate: _Candidate) -> None:
        best = self._best.get(label)
        room = label is not None and (best or len(self._best) < 4 * self._wanted)
        if room and (best is None or candidate.contrast > best.contrast):
            self._best[label], candidate = candidate, best
        if candidate is not None:
            ranked = sorted([*self._others, candidate], key=lambda c: -c.contrast)
            self._others = ranked[: self._wanted]


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Loss on test images beside that of a trivial guess: "held_out_loss", "held_out_trivial".

    Both are the mean squared error over hidden patches in target space, each image weighing the
    same. The trivial guess for a hidden patch is, per channel, the mean of all target values of
    the image's visible patches: for plain pixels the mean colour of what is visible, for targets
    normalised per patch what its patches share in colour contrast (0 for grey images: then the
    error is 1, up to rounding and constant patches).
    """

    inputs: Inputs
    every: int = 0
    name: str = "held_out"

    def run(self, predict: Predict, state: State) -> Iterator[Result]:
        """Both losses over the whole test set, every image once, with one mask each."""
        reconstruct = self.inputs.runner(offered(predict, "reconstruct"), "reconstruct", state)
        sums = np.zeros(3)
        for batch in self.inputs.test():
            valid = np.asarray(batch["valid"], bool)
            outputs = reconstruct(batch)
            names = ("prediction", "target", "hidden")
            arrays = [local_rows(outputs[name])[valid] for name in names]
            losses = held_out_losses(*arrays, channels=pixels_of(batch).shape[-1])
            sums += [losses[0].sum(), losses[1].sum(), valid.sum()]
        loss, trivial, count = total(sums)
        if not count:
            raise UserError("there are no images to measure the held-out loss on")
        facts = {"train_count": 0, "test_count": int(count), "kind": "loss"}
        how = "mean squared error over hidden patches in target space, one mask per test image"
        guess = f"{how}; guess = mean of the image's visible targets per channel"
        for key, value, text in (
            ("held_out_loss", loss / count, how),
            ("held_out_trivial", trivial / count, guess),
        ):
            yield key, self.inputs.score(state, key, value, text, **facts)


def held_out_losses(
    prediction: np.ndarray, target: np.ndarray, hidden: np.ndarray, *, channels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Errors (float64[B], float64[B]) of a prediction and of the trivial guess, per image.

    An image without hidden patches has error 0; one without visible ones is guessed as 0.

    Args:
        prediction: float[B, N, P], P = patch height x width x channels, channel fastest.
        target: float[B, N, P].
        hidden: bool[B, N].
        channels: C; if it does not divide P, one mean over all P is the guess.
    """
    channels = channels if target.shape[-1] % channels == 0 else 1
    target = np.asarray(target, np.float64)
    visible = ~np.asarray(hidden, bool)
    by_channel = target.reshape(*target.shape[:2], -1, channels).mean(2)
    seen = np.maximum(visible.sum(1), 1)[:, None]
    guess = (by_channel * visible[..., None]).sum(1) / seen
    guess = np.tile(guess, target.shape[-1] // channels)[:, None]

    def error(values: np.ndarray) -> np.ndarray:
        per_patch = np.square(values - target).mean(-1)
        return (per_patch * hidden).sum(1) / np.maximum(hidden.sum(1), 1)

    return error(np.asarray(prediction, np.float64)), error(guess)


def offered(predict: Predict, name: str) -> Predict:
    """The functions, if one of this name is among them.

    Raises:
        UserError: otherwise.
    """
    if name not in predict:
        there = ", ".join(sorted(predict)) or "nothing"
        raise UserError(f"this method cannot {name}: it offers {there}; leave the evaluator out")
    return predict
