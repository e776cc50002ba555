"""Evaluators that measure a network layer by layer: white-box transformers, attention."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from maskjax.errors import UserError
from maskjax.evaluate.evaluator import Inputs, Predict, Result, State
from maskjax.evaluate.hosts import local_rows, total
from maskjax.evaluate.picture_evaluators import offered
from maskjax.observe.layer_table import layer_table

Rows = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class LayerKind:
    """What is measured.

    Attributes:
        name: of evaluator and picture.
        predict: the method's function.
        rows: {label in the table: outputs of valid images -> float[B, L]}.
        title, caption: of the table.
        scores: {label: means float[L]} -> (score, value, how it was measured).
    """

    name: str
    predict: str
    rows: Mapping[str, Callable[[Rows], np.ndarray]]
    title: str
    caption: str
    scores: Callable[[Rows], Iterable[tuple[str, float, str]]]


@dataclasses.dataclass(frozen=True)
class LayerProbe:
    """A picture, a table, and scores; all are means over whole test images.

    Attributes:
        inputs: the data.
        kind: what is measured.
        every: see `Evaluator`.
        num_images: at least so many images are measured, or all test images.
    """

    inputs: Inputs
    kind: LayerKind
    every: int = 0
    num_images: int = 512

    @property
    def name(self) -> str:
        """As in the config."""
        return self.kind.name

    def run(self, predict: Predict, state: State) -> Iterator[Result]:
        """The table, then the scores."""
        kind = self.kind
        run = self.inputs.runner(offered(predict, kind.predict), kind.predict, state)
        sums: dict[str, np.ndarray] = {}
        images = 0
        for batch in self.inputs.test():
            valid = np.asarray(batch["valid"], bool)
            outputs = {name: local_rows(x)[valid] for name, x in run(batch).items()}
            for label, measure in kind.rows.items():
                added = total(measure(outputs).sum(0).astype(np.float64))
                sums[label] = sums.get(label, 0) + added
            images += int(total(np.array([valid.sum()]))[0])
            if images >= self.num_images:
                break
        if not images:
            raise UserError("there are no images to measure layers on")
        found = {label: values / images for label, values in sums.items()}
        title = f"{kind.title}, step {int(state.step):,}"
        caption = f"Means over {images:,} whole test images. {kind.caption} Colours span each row."
        yield self.name, layer_table(found, title=title, caption=caption)
        facts = {"train_count": 0, "test_count": images, "kind": "number"}
        for key, value, how in kind.scores(found):
            yield key, self.inputs.score(state, key, value, how, **facts)


ZEROS, RATE = (
    "encoder: share of zeros after the layer",
    "encoder: coding rate in the layer's subspaces",
)


def _white_box_scores(found: Rows) -> Iterator[tuple[str, float, str]]:
    """Of the encoder's first and last layer."""
    zeros, rate = found[ZEROS], found[RATE]
    of_layer = "nats in the subspaces of the encoder's {} layer, distortion 0.5, whole images"
    yield "zeros_last", zeros[-1], "share of exact zeros after the encoder, whole images"
    yield "coding_rate_first", rate[0], of_layer.format("first")
    yield "coding_rate_last", rate[-1], of_layer.format("last")


WHITE_BOX = LayerKind(
    "layers",
    "rates",
    {
        ZEROS: lambda rows: rows["encoder_zeros"],
        RATE: lambda rows: rows["encoder_rate"],
        "decoder: coding rate in the layer's subspaces": lambda rows: rows["decoder_rate"],
    },
    "Layers of the white-box transformer",
    "Coding rate: nats for all tokens of an image in all subspaces of a layer, at a distortion of"
    " 0.5, before the layer compresses them.",
    _white_box_scores,
)
DISTANCE, SPREAD, INFORMATION = (
    "distance of attention, patches",
    "its standard deviation between heads",
    "mutual information of queries and keys",
)


def _attention_scores(found: Rows) -> Iterator[tuple[str, float, str]]:
    """Of the last layer, where attention collapses first."""
    of_last = "{} in the last layer, whole images"
    patches = "mean distance of attention, in patches, mean over heads,"
    yield "attention_distance_last", found[DISTANCE][-1], of_last.format(patches)
    heads = "standard deviation between heads of the mean distance of attention, in patches,"
    yield "attention_spread_last", found[SPREAD][-1], of_last.format(heads)
    shared = "normalised mutual information of queries and keys (0 = collapsed), mean over heads,"
    yield "attention_information_last", found[INFORMATION][-1], of_last.format(shared)


ATTENTION = LayerKind(
    "attention",
    "attention",
    {
        DISTANCE: lambda rows: rows["distance"].mean(-1),
        SPREAD: lambda rows: rows["distance"].std(-1),
        INFORMATION: lambda rows: rows["mutual_information"].mean(-1),
    },
    "Attention by layer",
    "Mutual information is 0 where all queries of a head look at the same keys, 1 where each one"
    " has its own.",
    _attention_scores,
)
LAYER_KINDS = (WHITE_BOX, ATTENTION)
