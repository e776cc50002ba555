"""What an evaluator is, what it is given, and what several of them share."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from jax import Array

from maskjax.evaluate import baselines
from maskjax.evaluate.features import Features, HostBatch, extract
from maskjax.evaluate.scores import RAW_PIXELS, Score, weights_name

Predict = Mapping[str, Callable[..., Mapping[str, Array]]]
Result = tuple[str, Score | np.ndarray]

# What evaluation batches hold beside the fields of the data and "position".
_FACTS = ("label", "valid", "id")


class State(Protocol):
    """The part of a training state that evaluators read."""

    params: Any
    extra: Any
    step: Any


class Evaluator(Protocol):
    """Measures a state; runs on every process, with the same results on each.

    Attributes:
        name: as in the config.
        every: training steps between runs; 0 = only when asked.
    """

    name: str
    every: int

    def run(self, predict: Predict, state: State) -> Iterator[Result]:
        """Yields (key, score) and (key, picture uint8[H, W, 3]).

        Args:
            predict: the method's functions (params, extra, batch, draws) -> {name: array}, jitted
                by the caller; the batch is a host batch of this process's rows.
            state: with params, extra and step.
        """


class Inputs:
    """The data that evaluators measure on, and the features of the last state seen.

    kNN, probe and rank of one state share one pass over the images.

    Attributes:
        train: gives a fresh finite iterator over training images, without augmentation.
        test: the same over images never trained on.
        pool: which features: "mean" or "cls".
        seed: of masks and of the probe's held-out split.
        weights: name of the weights in the scores; None = from the step of the state.
    """

    def __init__(
        self,
        train: Callable[[], Iterator[HostBatch]],
        test: Callable[[], Iterator[HostBatch]],
        *,
        pool: str = "mean",
        seed: int = 0,
        weights: str | None = None,
    ):
        self.train, self.test = train, test
        self.pool, self.seed, self.weights = pool, seed, weights
        self._params: Any = None
        self._cache: dict[str, Features] = {}

    def features(self, predict: Predict, state: State) -> tuple[Features, Features]:
        """(train, test) features of a state."""
        if self._params is not state.params:
            self._params, self._cache = state.params, {}
        for split in ("train", "test"):
            if split not in self._cache:
                run = self.runner(predict, "encode", state)
                self._cache[split] = extract(run, getattr(self, split)())
        return self._cache["train"], self._cache["test"]

    def pixels(self) -> tuple[Features, Features]:
        """(train, test) raw pixels."""
        return baselines.raw_pixels(self.train(), self.test())

    def runner(
        self, predict: Predict, name: str, state: State
    ) -> Callable[[HostBatch], Mapping[str, Array]]:
        """batch -> predict[name] of it; masks depend on seed and position of each image only."""
        import jax

        from maskjax.masking import Draws

        key = jax.random.key(self.seed)

        def run(batch: HostBatch) -> Mapping[str, Array]:
            draws = Draws.keyed(key, batch["position"])
            fields = {key: value for key, value in batch.items() if key not in _FACTS}
            return predict[name](state.params, state.extra, fields, draws)

        return run

    def score(self, state: State, name: str, value: float, protocol: str, **facts: Any) -> Score:
        """A score of this state's weights."""
        step = int(state.step)
        weights = self.weights or weights_name(step)
        return Score(name, float(value), protocol, weights=weights, step=step, **facts)


def as_raw_pixels(score: Score) -> Score:
    """The score as one of raw pixels: no pool, no weights, no step."""
    protocol = f"{baselines.PROTOCOL}, {score.protocol}"
    return dataclasses.replace(score, protocol=protocol, pool="", weights=RAW_PIXELS, step=0)
