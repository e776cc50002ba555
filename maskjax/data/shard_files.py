"""Writing images and labels into the sharded files that the sources read."""

import io
import json
import re
import tarfile
from typing import NamedTuple, Protocol

# The text of an id that a tar member keeps; a dot would start its extension.
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_ID_LENGTH = 60
_ROW_GROUP = 16


class Item(NamedTuple):
    """One image of a shard.

    Attributes:
        number: of the example in its source.
        id: of the example.
        image: the bytes of a file.
        extension: of that file: "jpg".
        label: or None.
    """

    number: int
    id: str
    image: bytes
    extension: str
    label: int | None


class ShardFile(Protocol):
    """A file that items are added to. It is whole only after ``close``."""

    def __init__(self, path: str, class_names: tuple[str, ...] | None): ...

    def add(self, item: Item) -> None: ...

    def close(self) -> None: ...


class TarShard:
    """WebDataset: members KEY.jpg and KEY.cls; the key is the number and what fits of the id."""

    def __init__(self, path: str, class_names: tuple[str, ...] | None):
        self._tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def add(self, item: Item) -> None:
        stem = item.id.rpartition(".")[0] or item.id
        key = f"{item.number:08d}-{_UNSAFE.sub('_', stem)[-_ID_LENGTH:]}"
        self._member(f"{key}.{item.extension}", item.image)
        if item.label is not None:
            self._member(f"{key}.cls", str(item.label).encode())

    def _member(self, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)  # With no time, so that the same images give the same file.
        member.size = len(data)
        self._tar.addfile(member, io.BytesIO(data))

    def close(self) -> None:
        self._tar.close()


class ParquetShard:
    """The layout of Hugging Face's datasets, in small row groups for access at random."""

    def __init__(self, path: str, class_names: tuple[str, ...] | None):
        import pyarrow as pa
        from pyarrow import parquet

        features: dict = {"image": {"_type": "Image"}}
        fields = {"image": pa.struct({"bytes": pa.binary(), "path": pa.string()})}
        fields["label"] = pa.int64()
        features["label"] = {"_type": "Value", "dtype": "int64"}
        if class_names:
            features["label"] = {"_type": "ClassLabel", "names": list(class_names)}
        told = json.dumps({"info": {"features": features}})
        self._schema = pa.schema(fields).with_metadata({"huggingface": told})
        self._writer = parquet.ParquetWriter(path, self._schema, compression="none")
        self._rows: list[dict] = []

    def add(self, item: Item) -> None:
        # A label of -1 throughout is how hidden labels are written.
        label = -1 if item.label is None else item.label
        self._rows.append({"image": {"bytes": item.image, "path": item.id}, "label": label})
        if len(self._rows) == _ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        self._writer.write_table(pa.Table.from_pylist(self._rows, self._schema))
        self._rows = []

    def close(self) -> None:
        if self._rows:
            self._flush()
        self._writer.close()


class ArrayRecordShard:
    """msgpack maps of image, label and id, one by one for access at random."""

    def __init__(self, path: str, class_names: tuple[str, ...] | None):
        from array_record.python.array_record_module import ArrayRecordWriter

        self._writer = ArrayRecordWriter(path, "group_size:1")

    def add(self, item: Item) -> None:
        import msgpack

        record = {"image": item.image, "id": item.id}
        if item.label is not None:
            record["label"] = item.label
        self._writer.write(msgpack.packb(record))

    def close(self) -> None:
        self._writer.close()


# format -> (how it is written, extension of its files, whether class names go beside them)
FORMATS: dict[str, tuple[type, str, bool]] = {
    "wds": (TarShard, "tar", True),
    "parquet": (ParquetShard, "parquet", False),
    "array_record": (ArrayRecordShard, "array_record", True),
}
