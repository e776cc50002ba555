"""``tfds:NAME@DIR``: data sets that TFDS prepared, read without TensorFlow."""

from typing import Any

from maskjax.data import cache, files
from maskjax.data.sources import shards, tfds_dir
from maskjax.data.sources.array_record_file import ArrayRecords
from maskjax.data.sources.checks import match_split, require_package
from maskjax.data.sources.features import FeatureDecoder
from maskjax.data.sources.records import Piece, Reader, RecordSource
from maskjax.data.sources.row_groups import RowGroups, index_parquet
from maskjax.data.sources.tfrecord import TFRecords, index_tfrecord
from maskjax.errors import UserError


def build(argument: str, split: str) -> RecordSource:
    """A prepared data set of TFDS: as array_record, parquet or tfrecord.

    Options behind a #: image=FEATURE, label=FEATURE, verify=crc (check the checksum of every
    TFRecord).

    Only its description and the list of its files are read here, and for TFRecord an index of the
    records, made on first use and kept in the cache folder.

    Raises:
        UserError: nothing is prepared there; another file format; no such split; a shard is
            missing, damaged, or has another number of records than the description says.
    """
    place, options = shards.parse("tfds", argument, ("image", "label", "verify"))
    folder = tfds_dir.locate(place)
    kind = str(tfds_dir.read_info(folder).get("fileFormat") or "tfrecord")
    if kind not in ("array_record", "parquet", "tfrecord"):
        raise UserError(
            f"{folder} is stored as {kind}, which is not read here; convert it, where TensorFlow"
            f" is, with: tfds convert_format --dataset_version_dir={folder} --out_dir=DIR"
            " --out_file_format=array_record"
        )
    info = _info(folder)
    decoder = FeatureDecoder(info.features, folder, options.get("image"), options.get("label"))
    instructions = _instructions(info, folder, split)
    lengths = {
        files.join(folder, _name(found.filename)): found.examples_in_shard for found in instructions
    }
    pieces = [
        Piece(files.join(folder, _name(found.filename)), found.skip, found.take)
        for found in instructions
    ]
    reader = _reader(kind, folder, lengths, options.get("verify") == "crc")
    return RecordSource(pieces, reader, decoder, decoder.class_names)


def _info(folder: str) -> Any:
    require_package("tensorflow_datasets", f"the data set in {folder}", "maskjax[tfds]")
    import tensorflow_datasets as tfds

    if not files.is_file(files.join(folder, tfds_dir.FEATURES)):
        raise UserError(
            f"{folder} has no {tfds_dir.FEATURES}: it was prepared by an old version of TFDS;"
            " prepare it again"
        )
    try:
        return tfds.builder_from_directory(tfds_dir.local_metadata(folder)).info
    except Exception as error:
        # Whatever TFDS raises here is about the content of these files.
        raise UserError(f"TFDS cannot read the description in {folder}: {error}") from error


def _instructions(info: Any, folder: str, split: str) -> list[Any]:
    name = match_split(split, info.splits)
    if name is None:
        raise UserError(f"{folder} has no split {split!r}; it has: {', '.join(info.splits)}")
    found = info.splits[name].file_instructions
    found = [piece for piece in found if piece.take]
    if not found:
        raise UserError(f"the split {split!r} of {folder} is empty")
    return found


def _reader(kind: str, folder: str, lengths: dict[str, int], verify: bool) -> Reader:
    """Reads the shards, of which lengths tells the number of records."""
    there = set(files.scan(folder)[0])
    if missing := [path for path in lengths if _name(path) not in there]:
        raise UserError(f"{missing[0]} is missing; {len(missing)} of {len(lengths)} shards are")
    if kind == "array_record":
        return ArrayRecords(lengths)
    found = [shard for shard in files.entries(list(lengths)) if shard is not None]
    scan = index_tfrecord if kind == "tfrecord" else index_parquet
    where = f"{folder} {' '.join(sorted(lengths))}"
    indices = dict(zip(lengths, cache.indexed(f"{kind}-1", where, found, scan), strict=True))
    reader = TFRecords(indices, verify) if kind == "tfrecord" else RowGroups(indices)
    for path, length in lengths.items():
        counted = len(indices[path]["size"]) if kind == "tfrecord" else indices[path]["rows"].sum()
        if counted != length:
            raise UserError(f"{path} has {counted} records; {tfds_dir.INFO} says {length}")
    return reader


def _name(path: str) -> str:
    return str(path).rpartition("/")[2]
