"""A trained classifier on the test split: "top1", "top5", "test_loss", every image exactly once."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from maskjax.errors import UserError
from maskjax.evaluate.evaluator import Inputs, Predict, Result, State
from maskjax.evaluate.hosts import local_rows, total
from maskjax.evaluate.picture_evaluators import offered

KS = (1, 5)


@dataclasses.dataclass(frozen=True)
class Classification:
    """Accuracy of the method's own classifier (`predict["classify"]`).

    Attributes:
        inputs: the data.
        every: see `Evaluator`.
        protocol: how the classifier was trained, in words; its name first.
        pool: what the classifier reads.
    """

    inputs: Inputs
    every: int = 0
    protocol: str = "trained classifier"
    pool: str = ""
    name: str = "classify"

    def run(self, predict: Predict, state: State) -> Iterator[Result]:
        """Scores over the whole test split."""
        run = self.inputs.runner(offered(predict, "classify"), "classify", state)
        sums, classes = np.zeros(len(KS) + 2), 0
        for batch in self.inputs.test():
            if "label" not in batch:
                raise UserError("the classify evaluator needs labels, and the test data has none")
            valid = np.asarray(batch["valid"], bool)
            logits = local_rows(run(batch)["logits"])[valid]
            classes = logits.shape[-1]
            sums += measured(logits, np.asarray(batch["label"])[valid])
        *right, loss, count = total(sums)
        if not count:
            raise UserError("there are no images to classify")
        facts = {"train_count": 0, "test_count": int(count), "pool": self.pool}
        for k, number in zip(KS, right, strict=True):
            if k < max(classes, 2):
                key = f"top{k}"
                yield key, self.inputs.score(state, key, number / count, self.protocol, **facts)
        facts["kind"] = "loss"
        text = f"{self.protocol}; mean cross-entropy of the true labels"
        yield "test_loss", self.inputs.score(state, "test_loss", loss / count, text, **facts)


def measured(logits: np.ndarray, label: np.ndarray) -> np.ndarray:
    """float64[4]: how many are right among the best 1 and 5, sum of cross-entropies, how many.

    Classes that score the same as the true one count as above it; logits that are no numbers are
    wrong.

    Args:
        logits: float[n, K].
        label: int[n].

    Raises:
        UserError: a label is not one of the K classes.
    """
    if len(label) and not 0 <= label.min() <= label.max() < logits.shape[1]:
        raise UserError(
            f"config.model.num_classes = {logits.shape[1]}: the test data has the labels"
            f" {label.min()} .. {label.max()}"
        )
    logits = np.asarray(logits, np.float64)
    own = logits[np.arange(len(label)), label][:, None]
    above = (~(logits < own)).sum(1) - 1  # the true class is not below itself
    peak = logits.max(1, keepdims=True, initial=-np.inf)
    losses = np.log(np.exp(logits - peak).sum(1)) + (peak - own)[:, 0]
    return np.array([*((above < k).sum() for k in KS), losses.sum(), len(label)], np.float64)
