"""Evaluators of frozen features: kNN, linear probe, rank, and the raw-pixel baseline."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from maskjax.evaluate import knn, linear_probe, rank
from maskjax.evaluate.evaluator import Inputs, Predict, Result, State, as_raw_pixels
from maskjax.evaluate.features import Features


@dataclasses.dataclass(frozen=True)
class Knn:
    """k nearest neighbours by the protocol of DINO: keys "knn@10", "knn@20", ...

    Attributes:
        inputs: the data.
        every: see `Evaluator`.
        ks: numbers of neighbours.
        temperature: of the vote.
        centred: also measure with the training mean taken out ("knn_centred@20").
    """

    inputs: Inputs
    every: int = 0
    ks: Sequence[int] = knn.KS
    temperature: float = knn.TEMPERATURE
    centred: bool = False
    name: str = "knn"

    def run(self, predict: Predict, state: State) -> Iterator[Result]:
        """Scores of the pooled features."""
        train, test = self.inputs.features(predict, state)
        return self.of(state, train, test)

    def of(self, state: State, train: Features, test: Features) -> Iterator[Result]:
        """Scores of given features."""
        pool = self.inputs.pool
        bank, queries = train.pooled(pool), test.pooled(pool)
        labels = train.labels(self.name), test.labels(self.name)
        for centre in (False, True) if self.centred else (False,):
            options = {"temperature": self.temperature, "centre": centre}
            found = knn.knn_accuracy(bank, labels[0], queries, labels[1], ks=self.ks, **options)
            for k, (key, value) in zip(self.ks, found.items(), strict=True):
                protocol = knn.protocol(k, len(bank), **options)
                facts = {"train_count": len(bank), "test_count": len(queries), "pool": pool}
                yield key, self.inputs.score(state, key, value, protocol, **facts)


@dataclasses.dataclass(frozen=True)
class LinearProbe:
    """Logistic regression on cached features: key "linear_probe".

    Attributes:
        inputs: the data; its seed draws the held-out split.
        every: see `Evaluator`.
        strengths, max_dim: see `linear_probe.linear_probe`.
    """

    inputs: Inputs
    every: int = 0
    strengths: Sequence[float] = linear_probe.STRENGTHS
    max_dim: int | None = None
    name: str = "linear_probe"

    def run(self, predict: Predict, state: State) -> Iterator[Result]:
        """Score of the pooled features."""
        train, test = self.inputs.features(predict, state)
        return self.of(state, train, test)

    def of(self, state: State, train: Features, test: Features) -> Iterator[Result]:
        """Score of given features."""
        pool, seed = self.inputs.pool, self.inputs.seed
        rows, queries = train.pooled(pool), test.pooled(pool)
        labels = train.labels(self.name), test.labels(self.name)
        options = {"strengths": self.strengths, "max_dim": self.max_dim, "seed": seed}
        probe = linear_probe.linear_probe(rows, labels[0], queries, labels[1], **options)
        facts = {"train_count": len(rows), "test_count": len(queries), "pool": pool}
        protocol = linear_probe.protocol(probe)
        yield self.name, self.inputs.score(state, self.name, probe.accuracy, protocol, **facts)


@dataclasses.dataclass(frozen=True)
class Rank:
    """Collapse alarms on test features: keys "effective_rank", "feature_spread"."""

    inputs: Inputs
    every: int = 0
    name: str = "rank"

    def run(self, predict: Predict, state: State) -> Iterator[Result]:
        """Both numbers of the pooled features; no labels are needed."""
        rows = self.inputs.features(predict, state)[1].pooled(self.inputs.pool)
        facts: dict[str, Any] = {"train_count": 0, "test_count": len(rows)}
        facts |= {"pool": self.inputs.pool, "kind": "number"}
        protocol = f"exp of the entropy of the singular values (RankMe), of at most {rows.shape[1]}"
        value = rank.effective_rank(rows)
        yield "effective_rank", self.inputs.score(state, "effective_rank", value, protocol, **facts)
        protocol = "standard deviation of normalised features x sqrt(D); 0 = collapsed, at most 1"
        value = rank.feature_spread(rows)
        yield "feature_spread", self.inputs.score(state, "feature_spread", value, protocol, **facts)


@dataclasses.dataclass(frozen=True)
class RawPixels:
    """kNN and linear probe on raw pixels: the baseline; needs no model, run it once.

    Keys "raw_pixels/knn@20", ..., "raw_pixels/linear_probe"; the scores carry the plain names.

    Attributes:
        inputs: the data.
        every: see `Evaluator`.
        max_dim: of the probe, see `linear_probe.linear_probe`.
        of: which of "knn" and "linear_probe" to measure.
    """

    inputs: Inputs
    every: int = 0
    max_dim: int | None = 256
    of: Sequence[str] = ("knn", "linear_probe")
    name: str = "raw_pixels"

    def run(self, predict: Predict, state: State) -> Iterator[Result]:
        """Scores of the pixels; `predict` and `state` are not looked at."""
        train, test = self.inputs.pixels()
        evaluators = (Knn(self.inputs), LinearProbe(self.inputs, max_dim=self.max_dim))
        for evaluator in (e for e in evaluators if e.name in self.of):
            for key, score in evaluator.of(state, train, test):
                yield f"{self.name}/{key}", as_raw_pixels(score)
