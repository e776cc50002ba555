"""Evaluator of completed point clouds: pictures and held-out distance."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from maskjax.errors import UserError
from maskjax.evaluate.evaluator import Inputs, Predict, Result, State
from maskjax.evaluate.hosts import local_rows, total
from maskjax.evaluate.picture_evaluators import offered
from maskjax.observe.clouds import cloud_sheet


@dataclasses.dataclass(frozen=True)
class Completion:
    """Picture "completion" (cloud, what is visible, completed cloud) and two distances.

    "completion_distance" is the Chamfer-L2 distance between predicted and true points of the hidden
    tokens, each cloud weighing the same; "completion_trivial" is that of a guess that puts all
    points of a token at its centre, which is the mask's to tell.

    Attributes:
        inputs: the data.
        every: see `Evaluator`.
        num_clouds: in the picture: the first ones of each class.
    """

    inputs: Inputs
    every: int = 0
    num_clouds: int = 8
    name: str = "completion"

    def run(self, predict: Predict, state: State) -> Iterator[Result]:
        """The picture and both distances, over the whole test set with one mask for each cloud."""
        complete = self.inputs.runner(offered(predict, "complete"), "complete", state)
        shown: dict[int, list[np.ndarray]] = {}
        sums = np.zeros(3)
        for batch in self.inputs.test():
            valid = np.asarray(batch["valid"], bool)
            found = {name: local_rows(array)[valid] for name, array in complete(batch).items()}
            errors = completion_errors(**found)
            sums += [*(error.sum() for error in errors), len(errors[0])]
            labels = np.asarray(batch.get("label", np.arange(len(valid))))[valid]
            clouds = np.asarray(batch["points"])[valid]
            for index, label in enumerate(labels):
                if len(shown) < self.num_clouds and int(label) not in shown:
                    row = {name: array[index] for name, array in found.items()}
                    shown[int(label)] = _columns(clouds[index], **row)
        distance, trivial, count = total(sums)
        if not count:
            raise UserError("there are no clouds to complete")
        if shown:
            columns = zip(*(shown[label] for label in sorted(shown)), strict=True)
            names = ("cloud", "visible", "visible and predicted")
            title = f"Completed test clouds, step {int(state.step):,}"
            yield self.name, cloud_sheet(dict(zip(names, columns, strict=True)), title=title)
        facts = {"train_count": 0, "test_count": int(count), "kind": "loss"}
        how = "Chamfer-L2 distance of the points of hidden tokens, one mask per test cloud"
        for key, value, text in (
            ("completion_distance", distance / count, how),
            ("completion_trivial", trivial / count, f"{how}; guess = the centre of the token"),
        ):
            yield key, self.inputs.score(state, key, value, text, **facts)


def completion_errors(
    prediction: np.ndarray, target: np.ndarray, hidden: np.ndarray, centers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """float64[B] of a prediction and of the trivial guess; a cloud that hides nothing has 0.

    Args:
        prediction, target: float[B, G, k, 3].
        hidden: bool[B, G].
        centers: float[B, G, 3].
    """
    target = np.asarray(target, np.float64)

    def error(guess: np.ndarray) -> np.ndarray:
        squares = np.square(guess[..., :, None, :] - target[..., None, :, :]).sum(-1)
        tokens = squares.min(-1).mean(-1) + squares.min(-2).mean(-1)
        return (tokens * hidden).sum(1) / np.maximum(hidden.sum(1), 1)

    return error(np.asarray(prediction, np.float64)), error(np.float64(centers)[:, :, None])


def _columns(
    cloud: np.ndarray,
    prediction: np.ndarray,
    target: np.ndarray,
    hidden: np.ndarray,
    centers: np.ndarray,
) -> list[np.ndarray]:
    """The columns of the picture for one cloud."""
    visible = target[~hidden].reshape(-1, 3)
    return [cloud, visible, np.concatenate([visible, prediction[hidden].reshape(-1, 3)])]
