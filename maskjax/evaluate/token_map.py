"""Evaluator of methods that predict visual tokens: their map, and the share that is right."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from maskjax.errors import UserError
from maskjax.evaluate.evaluator import Inputs, Predict, Result, State
from maskjax.evaluate.hosts import local_rows, total
from maskjax.evaluate.picture_evaluators import Chosen, offered
from maskjax.observe import pictures


@dataclasses.dataclass(frozen=True)
class TokenMap:
    """Picture "token_map" of test images, and scores "token_accuracy", "token_accuracy_trivial".

    The accuracy is that of the most likely token of every hidden patch of every test image, with
    one mask each; the trivial guess is always the token that is most frequent there. Images are
    chosen as those of `Reconstruction`; with several processes each one draws its own.

    Attributes:
        inputs: the data.
        every: see `Evaluator`.
        vocab: number of tokens.
        num_images: of the picture.
        grid: (rows, columns) of the patches; None for square patches.
    """

    inputs: Inputs
    every: int = 0
    vocab: int = 8192
    num_images: int = 8
    grid: tuple[int, int] | None = None
    name: str = "token_map"

    def run(self, predict: Predict, state: State) -> Iterator[Result]:
        """The picture and both scores."""
        tokens = self.inputs.runner(offered(predict, "tokens"), "tokens", state)
        chosen, sums, counts = Chosen(self.num_images), np.zeros(2), np.zeros(self.vocab)
        for batch in self.inputs.test():
            outputs = tokens(batch)
            chosen.add(batch, outputs)
            valid = np.asarray(batch["valid"], bool)
            hidden, ids, guess = (
                local_rows(outputs[name])[valid] for name in ("hidden", "ids", "predicted")
            )
            sums += [valid.sum(), (hidden & (ids == guess)).sum()]
            counts += np.bincount(ids[hidden], minlength=self.vocab)
        images, right, *counts = total(np.concatenate([sums, counts]))
        if not images:
            raise UserError("there are no images to predict tokens for")
        if rows := chosen.rows():
            title = f"Visual tokens of test images, step {int(state.step):,}"
            yield self.name, pictures.token_sheet(**rows, grid=self.grid, title=title)
        facts = {"train_count": 0, "test_count": int(images)}
        how = f"most likely of {self.vocab} tokens, all hidden patches, one mask per test image"
        guess = f"{how}; guess = the token that is most frequent there"
        for key, value, text in (
            ("token_accuracy", right, how),
            ("token_accuracy_trivial", max(counts), guess),
        ):
            yield key, self.inputs.score(state, key, value / max(sum(counts), 1), text, **facts)
