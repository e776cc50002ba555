"""``parquet:FILES``: Parquet files as Hugging Face's datasets library writes them."""

import json
from typing import Any

from maskjax.data import cache, files
from maskjax.data.sources import shards
from maskjax.data.sources.records import Piece, RecordSource
from maskjax.data.sources.row_groups import RowGroups, index_parquet, parquet_file
from maskjax.errors import UserError

_IMAGES = ("image", "img", "jpg", "jpeg", "png", "webp", "image_bytes")
_LABELS = ("label", "labels", "cls", "class", "target", "y")


def build(argument: str, split: str) -> RecordSource:
    """Rows with an image (struct{bytes, path}, or binary) and, if there is one, an integer label.

    FILES is a pattern or a directory; ``shards.find`` says which files are a split. The columns are
    those that the features of datasets, kept in the file, call an Image and a ClassLabel, else go
    by their usual names; FILES#image=COLUMN,label=COLUMN names them. Class names come from the same
    features. A label column that holds only -1, as in hidden test sets, is no label.
    """
    pattern, options = shards.parse("parquet", argument, ("image", "label"))
    found = shards.find("parquet", pattern, split, (".parquet",))
    where = f"{files.absolute(pattern)} {split}"
    indices = cache.indexed("parquet-1", where, found, index_parquet)
    by_path = {file.path: index for file, index in zip(found, indices, strict=True)}
    pieces = [Piece(path, 0, int(index["rows"].sum())) for path, index in by_path.items()]
    pieces = [piece for piece in pieces if piece.take]
    if not pieces:
        raise UserError(f"parquet:{pattern} has no rows in {len(found)} files")
    image, label, names = _columns(pieces[0].path, options)
    reader = RowGroups(by_path, (image,) if label is None else (image, label))
    return RecordSource(pieces, reader, _decode, names if label else None)


def _decode(row: tuple[Any, ...]) -> dict[str, Any]:
    image, *label = row
    example: dict[str, Any] = {}
    if isinstance(image, dict):
        if image.get("path"):
            example["id"] = image["path"]
        image = image.get("bytes")
    if not isinstance(image, bytes):
        raise UserError("it holds no image bytes (a path to a file elsewhere is not followed)")
    example["image"] = image
    if label:
        if not isinstance(label[0], int):
            raise UserError(f"the label must be an integer, found {label[0]!r}")
        example["label"] = label[0]
    return example


def _columns(path: str, options: dict[str, str]) -> tuple[str, str | None, tuple[str, ...] | None]:
    """Names of the image column and of the label column, if any, and the class names, if known."""
    import pyarrow.types as kinds

    with parquet_file(path) as file:
        schema = file.schema_arrow
        footer = file.metadata
    features = _features(schema.metadata)
    is_image = {
        field.name: features.get(field.name, {}).get("_type") == "Image"
        or (kinds.is_struct(field.type) and field.type.get_field_index("bytes") >= 0)
        or (_is_binary(field.type) and field.name.lower() in _IMAGES)
        for field in schema
    }
    is_label = {
        field.name: features.get(field.name, {}).get("_type") == "ClassLabel"
        or (kinds.is_integer(field.type) and field.name.lower() in _LABELS)
        for field in schema
    }
    image = _pick(path, "image", options, schema.names, is_image)
    if image is None:
        raise UserError(
            f"{path} has no column of images (it has: {', '.join(schema.names)}); write"
            " #image=COLUMN"
        )
    label = _pick(path, "label", options, schema.names, is_label)
    if label is not None and not kinds.is_integer(schema.field(label).type):
        raise UserError(f"{path}: the label column {label!r} must hold integers")
    if label is not None and _is_hidden(footer, label):
        label = None
    names = features.get(label, {}).get("names")
    return image, label, tuple(names) if names else None


def _pick(path: str, usual: str, options, names: list[str], fits: dict[str, bool]) -> str | None:
    if (chosen := options.get(usual)) is not None:
        if chosen not in names:
            raise UserError(f"{path} has no column {chosen!r}; it has: {', '.join(names)}")
        return chosen
    found = [name for name in names if fits[name]]
    if usual in found or len(found) < 2:
        return usual if usual in found else next(iter(found), None)
    raise UserError(
        f"{path} has several columns that could be the {usual}: {', '.join(found)}. Write"
        f" #{usual}=COLUMN"
    )


def _features(metadata: dict[bytes, bytes] | None) -> dict[str, Any]:
    """The features of the datasets library; {} if the file has none that can be read."""
    try:
        found = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return {name: value for name, value in found.items() if isinstance(value, dict)}


def _is_binary(kind: Any) -> bool:
    import pyarrow.types as kinds

    return kinds.is_binary(kind) or kinds.is_large_binary(kind)


def _is_hidden(footer: Any, label: str) -> bool:
    """Whether the statistics of the first row group say that all its labels are negative."""
    group = footer.row_group(0)
    for number in range(group.num_columns):
        column = group.column(number)
        if column.path_in_schema == label and column.statistics is not None:
            return column.statistics.has_min_max and column.statistics.max < 0
    return False
