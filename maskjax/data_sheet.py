"""The contact sheet of `maskjax data --show`."""

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from maskjax import data_parts
from maskjax.data.decode import decode
from maskjax.data.examples import read_example
from maskjax.data.fields import as_fields
from maskjax.data.order import training_order
from maskjax.data.rows import RowMaker
from maskjax.data.source import Source
from maskjax.data.workers import Notes
from maskjax.errors import UserError
from maskjax.observe.contact_sheet import Entry, contact_sheet


def training_sheet(config: ConfigDict, source: Source, count: int) -> np.ndarray:
    """The first examples of the training stream, stored and augmented: uint8[H, W, 3].

    Before is the whole decoded image, or what the evaluation transform makes of other kinds of
    examples; after is exactly what the first batch of a new run holds, all views of each image.

    Args:
        config: resolved.
        source: its training data.
        count: examples.

    Raises:
        UserError: an example cannot be used and config.data.on_error is "error".
    """
    views = config.data.views
    order = training_order(source, config.seed)
    make = RowMaker(
        source,
        data_parts.train_transform(config),
        seed=config.seed,
        views=views,
        on_error=config.data.on_error,
        notes=Notes(),
    )
    entries = []
    for image in range(count):
        rows, name, bad = make(order[image], range(image * views, (image + 1) * views))
        label = rows[0].get("label")
        after = [{k: v for k, v in row.items() if k not in ("label", "position")} for row in rows]
        before, note = _before(config, source, order[image])
        if bad:
            note = f"skipped: {bad[0].reason}"
        entries.append(Entry(f"{name}{_class(source, label)}", before, after, note))
    title = f"{data_parts.data_spec(config)}, {config.data.train_split}: first batch of a run"
    return contact_sheet(entries, title)


def _before(config: ConfigDict, source: Source, number: int) -> tuple[dict[str, Any], str]:
    try:
        example = read_example(source, number)
        if data_parts.data_kind(config) != "image":
            return as_fields(data_parts.eval_transform(config)(example), example["id"]), ""
        picture = decode(example["image"], None, example["id"], data_parts.decoding(config))
        return {"image": picture}, ""
    except UserError as error:
        return {}, str(error)


def _class(source: Source, label: Any) -> str:
    if label is None:
        return ""
    names = source.class_names
    return f"   label {label}" + ("" if names is None else f" = {names[int(label)]}")
