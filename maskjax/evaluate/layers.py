"""Evaluator of white-box transformers: how sparse and how compressed tokens are, layer by layer."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from maskjax.errors import UserError
from maskjax.evaluate.evaluator import Inputs, Predict, Result, State
from maskjax.evaluate.hosts import local_rows, total
from maskjax.evaluate.picture_evaluators import offered
from maskjax.observe.layer_table import layer_table

_ROWS = {
    "encoder_zeros": "encoder: share of zeros after the layer",
    "encoder_rate": "encoder: coding rate in the layer's subspaces",
    "decoder_rate": "decoder: coding rate in the layer's subspaces",
}


@dataclasses.dataclass(frozen=True)
class LayerProbe:
    """Picture "layers", a table, and scores "zeros_last", "coding_rate_first", "coding_rate_last".

    The scores are of the encoder's first and last layer. All are means over whole test images.

    Attributes:
        inputs: the data.
        every: see `Evaluator`.
        num_images: at least so many images are measured, or all test images.
    """

    inputs: Inputs
    every: int = 0
    num_images: int = 512
    name: str = "layers"

    def run(self, predict: Predict, state: State) -> Iterator[Result]:
        """The table, then the scores."""
        rates = self.inputs.runner(offered(predict, "rates"), "rates", state)
        sums: dict[str, np.ndarray] = {}
        images = 0
        for batch in self.inputs.test():
            outputs, valid = rates(batch), np.asarray(batch["valid"], bool)
            for name in _ROWS:
                added = total(local_rows(outputs[name])[valid].sum(0).astype(np.float64))
                sums[name] = sums.get(name, 0) + added
            images += int(total(np.array([valid.sum()]))[0])
            if images >= self.num_images:
                break
        if not images:
            raise UserError("there are no images to measure layers on")
        found = {name: values / images for name, values in sums.items()}
        yield self.name, self._table(found, int(state.step), images)
        facts = {"train_count": 0, "test_count": images, "kind": "number"}
        zeros, rate = found["encoder_zeros"], found["encoder_rate"]
        of_layer = "nats in the subspaces of the encoder's {} layer, distortion 0.5, whole images"
        for key, value, how in (
            ("zeros_last", zeros[-1], "share of exact zeros after the encoder, whole images"),
            ("coding_rate_first", rate[0], of_layer.format("first")),
            ("coding_rate_last", rate[-1], of_layer.format("last")),
        ):
            yield key, self.inputs.score(state, key, value, how, **facts)

    def _table(self, found: dict[str, np.ndarray], step: int, images: int) -> np.ndarray:
        return layer_table(
            {_ROWS[name]: values for name, values in found.items()},
            title=f"Layers of the white-box transformer, step {step:,}",
            caption=f"Means over {images:,} whole test images. Coding rate: nats for all tokens of"
            " an image in all subspaces of a layer, at a distortion of 0.5, before the layer"
            " compresses them. Colours span each row.",
        )
