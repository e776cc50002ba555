"""Evaluators of frozen features with few labels, and by the training protocols of the papers."""

import dataclasses
from collections.abc import Iterator, Sequence

from maskjax.errors import UserError
from maskjax.evaluate import linear_probe, linear_svm, low_shot
from maskjax.evaluate.evaluator import Inputs, Predict, Result, State
from maskjax.evaluate.features import Features
from maskjax.evaluate.protocols import PROTOCOLS
from maskjax.evaluate.trained_probe import trained_probe


@dataclasses.dataclass(frozen=True)
class LowShot:
    """Ridge regression on 1, 5, 10, 25 images per class: keys "low_shot@1", ...

    Attributes:
        inputs: the data; its seed draws the images.
        every: see `Evaluator`.
        shots: images per class; numbers that a class has not are left out.
    """

    inputs: Inputs
    every: int = 0
    shots: Sequence[int] = low_shot.SHOTS
    name: str = "low_shot"

    def run(self, predict: Predict, state: State) -> Iterator[Result]:
        """Scores of the pooled features."""
        rows, labels, queries, truth, facts = _pooled(self, predict, state)
        shots = low_shot.possible(labels, self.shots)
        if not shots:
            raise UserError(f"low_shot: a class has fewer than {min(self.shots)} training images")
        for number in shots:
            seed = self.inputs.seed
            value = low_shot.low_shot(rows, labels, queries, truth, number, seed=seed)
            key, text = f"low_shot@{number}", low_shot.protocol(number)
            yield key, self.inputs.score(state, key, value, text, **facts)


@dataclasses.dataclass(frozen=True)
class SubsetProbe:
    """The linear probe on 1 % and 10 % of the training images: "linear_probe_1%", ...

    Attributes:
        inputs: the data; its seed draws the images.
        every: see `Evaluator`.
        shares: of the training set; those of fewer than 20 images are left out.
    """

    inputs: Inputs
    every: int = 0
    shares: Sequence[float] = low_shot.SHARES
    name: str = "subset_probe"

    def run(self, predict: Predict, state: State) -> Iterator[Result]:
        """Scores of the pooled features."""
        rows, labels, queries, truth, facts = _pooled(self, predict, state)
        for share in self.shares:
            few = low_shot.stratified(labels, share, self.inputs.seed)
            if len(few) < 20:
                continue
            probe = linear_probe.linear_probe(rows[few], labels[few], queries, truth)
            key = f"linear_probe_{100 * share:g}%"
            text = f"{100 * share:g} % of the labels: {linear_probe.protocol(probe)}"
            counts = facts | {"train_count": len(few)}
            yield key, self.inputs.score(state, key, probe.accuracy, text, **counts)


@dataclasses.dataclass(frozen=True)
class TrainedProbe:
    """A head trained by a protocol on cached features of images without augmentation.

    Attributes:
        inputs: the data; its seed draws first weights and order.
        every: see `Evaluator`.
        protocol: a key of `PROTOCOLS` that reads pooled features.
        name: as in the config, and the key of the score.
    """

    inputs: Inputs
    every: int = 0
    protocol: str = "mae_linear"
    name: str = "mae_probe"

    def run(self, predict: Predict, state: State) -> Iterator[Result]:
        """Score of the pooled features."""
        chosen = PROTOCOLS[self.protocol]
        rows, labels, queries, truth, facts = _pooled(self, predict, state)
        value, batch = trained_probe(rows, labels, queries, truth, chosen, seed=self.inputs.seed)
        text = f"{chosen.name}, on cached features without augmentation: {chosen.text(batch)}"
        yield self.name, self.inputs.score(state, self.name, value, text, **facts)


@dataclasses.dataclass(frozen=True)
class MlpProbe(TrainedProbe):
    """The same with a hidden layer."""

    protocol: str = "mlp"
    name: str = "mlp_probe"


@dataclasses.dataclass(frozen=True)
class LinearSvm:
    """A linear SVM on cached features: key "linear_svm", the measure of point-cloud methods.

    Attributes:
        inputs: the data.
        every: see `Evaluator`.
        c: see `linear_svm.linear_svm`.
    """

    inputs: Inputs
    every: int = 0
    c: float = linear_svm.C
    name: str = "linear_svm"

    def run(self, predict: Predict, state: State) -> Iterator[Result]:
        """Score of the pooled features."""
        rows, labels, queries, truth, facts = _pooled(self, predict, state)
        value = linear_svm.linear_svm(rows, labels, queries, truth, c=self.c)
        text = linear_svm.protocol(self.c)
        yield self.name, self.inputs.score(state, self.name, value, text, **facts)


def _pooled(
    evaluator: LowShot | SubsetProbe | TrainedProbe | LinearSvm, predict: Predict, state: State
):
    """Training rows and labels, test rows and labels, and the facts of a score of them."""
    inputs, (train, test) = evaluator.inputs, evaluator.inputs.features(predict, state)
    pool, name = inputs.pool, evaluator.name

    def parts(features: Features):
        return features.pooled(pool), features.labels(name)

    facts = {"train_count": len(train.label), "test_count": len(test.label), "pool": pool}
    return *parts(train), *parts(test), facts
