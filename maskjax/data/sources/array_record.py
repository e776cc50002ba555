"""``array_record:FILES``: ArrayRecord files that TFDS did not lay out."""

import io
import zipfile
from typing import Any

import numpy as np

from maskjax.data import cache, files
from maskjax.data.sources import features, shards
from maskjax.data.sources.array_record_file import ArrayRecords, index_array_record
from maskjax.data.sources.records import Piece, RecordSource
from maskjax.data.sources.tfds_dir import FEATURES
from maskjax.errors import UserError


def build(argument: str, split: str) -> RecordSource:
    """Records of ArrayRecord files.

    FILES is a pattern or a directory; ``shards.find`` says which files are a split. Beside a
    features.json (as TFDS writes it) the records are serialised tf.Examples, and
    FILES#image=FEATURE,label=FEATURE chooses among the features. Else each is a msgpack map or an
    npz file, with "image" (the bytes of an image file, or uint8[H, W, C] in npz) and, if there is
    one, "label" (an integer) and "id"; class names are the lines of classes.txt beside the files.
    """
    pattern, options = shards.parse("array_record", argument, ("image", "label"))
    found = shards.find("array_record", pattern, split, (".array_record", ".arrayrecord"))
    where = f"{files.absolute(pattern)} {split}"
    counts = cache.indexed("array_record-1", where, found, index_array_record)
    lengths = {file.path: int(n["count"][0]) for file, n in zip(found, counts, strict=True)}
    pieces = [Piece(path, 0, count) for path, count in lengths.items() if count]
    if not pieces:
        raise UserError(f"array_record:{pattern} has no records in {len(found)} files")
    folder = found[0].path.rpartition("/")[0]
    if files.is_file(files.join(folder, FEATURES)):
        decoder = features.FeatureDecoder(
            features.load(folder), folder, options.get("image"), options.get("label")
        )
        return RecordSource(pieces, ArrayRecords(lengths), decoder, decoder.class_names)
    if options:
        raise UserError(f"array_record:{argument}: options are for records with {FEATURES}")
    source = RecordSource(pieces, ArrayRecords(lengths), decode_map, shards.class_names(folder))
    source[0]  # So that another kind of records is told now.
    return source


def decode_map(record: bytes) -> dict[str, Any]:
    """A msgpack map or an npz file -> {"image", "label", "id"}, the last two if it has them.

    Raises:
        UserError: it is neither, or has no image, or a label that is no integer.
    """
    found = _unpack_npz(record) if record.startswith(b"PK\x03\x04") else _unpack_map(record)
    image, label = found.get("image"), found.get("label")
    if not isinstance(image, bytes) and getattr(image, "dtype", None) != np.uint8:
        raise UserError(f"has no 'image' of bytes or uint8; it holds: {', '.join(map(str, found))}")
    example: dict[str, Any] = {"image": image}
    if label is not None:
        if not isinstance(label, int):
            raise UserError(f"the label must be an integer, found {label!r}")
        example["label"] = label
    if found.get("id") is not None:
        example["id"] = str(found["id"])
    return example


def _unpack_map(record: bytes) -> dict[str, Any]:
    import msgpack

    try:
        found = msgpack.unpackb(record)
    except (ValueError, msgpack.UnpackException) as error:
        raise UserError(
            f"is neither a msgpack map nor an npz file ({error}); serialised tf.Examples need their"
            f" {FEATURES} in the same folder"
        ) from error
    if not isinstance(found, dict):
        raise UserError(f"must be a msgpack map, found {type(found).__name__}")
    return found


def _unpack_npz(record: bytes) -> dict[str, Any]:
    try:
        with np.load(io.BytesIO(record), allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"is a damaged npz file: {error}") from error
    # A file of an image is stored as uint8[bytes].
    return {
        name: value.tobytes()
        if value.ndim == 1 and value.dtype == np.uint8
        else (value.item() if value.ndim == 0 else value)
        for name, value in found.items()
    }
