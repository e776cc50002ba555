"""One set of 26 JPEGs, written in every layout that a source reads."""

import io
import json
import shutil
import struct
import tarfile
from pathlib import Path

import google_crc32c
import msgpack
import numpy as np
import pyarrow as pa
from image_files import encode, write
from pyarrow import parquet

from maskjax.data.decode import decode

CLASSES = ("ant", "bee", "cat")
NUM = 26
LABELS = [number * 3 // NUM for number in range(NUM)]
# Where the second of two shards begins.
CUT = 10


def jpegs() -> list[bytes]:
    """26 files, no two alike, of different sizes; ordered by class."""
    rng = np.random.default_rng(7)
    return [
        encode(rng.integers(0, 256, (6 + n % 5, 9, 3), np.uint8), "JPEG", quality=90)
        for n in range(NUM)
    ]


def name(number: int) -> str:
    return f"{CLASSES[LABELS[number]]}_{number:03d}.jpg"


def write_folder(root: Path) -> str:
    for number, data in enumerate(jpegs()):
        write(root / "train" / CLASSES[LABELS[number]] / name(number), data)
    return f"folder:{root}"


def write_flat(root: Path) -> str:
    for number, data in enumerate(jpegs()):
        write(root / "train" / name(number), data)
    rows = [f"{name(number)},{CLASSES[LABELS[number]]}" for number in range(NUM)]
    (root / "train/labels.csv").write_text("\n".join(["file,label", *rows]))
    return f"folder:{root}"


def write_tar(path: Path, members: dict[str, bytes], **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for member, data in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_wds(root: Path) -> str:
    data = jpegs()
    for shard, numbers in enumerate((range(CUT), range(CUT, NUM))):
        members = {}
        for n in numbers:
            members[f"x/{n:04d}.cls"] = str(LABELS[n]).encode()
            members[f"x/{n:04d}.jpg"] = data[n]
        write_tar(root / f"set-train-{shard:06d}.tar", members)
    (root / "classes.txt").write_text("\n".join(CLASSES))
    return f"wds:{root}/set-train-{{000000..000001}}.tar"


def hub_schema() -> pa.Schema:
    """The schema that the datasets library writes for an image and a class label."""
    features = {"image": {"_type": "Image"}, "label": {"names": CLASSES, "_type": "ClassLabel"}}
    image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    schema = pa.schema({"image": image, "label": pa.int64()})
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write_parquet(root: Path) -> str:
    root.mkdir(parents=True)
    data = jpegs()
    for shard, numbers in enumerate((range(CUT), range(CUT, NUM))):
        images = [{"bytes": data[n], "path": name(n)} for n in numbers]
        labels = [LABELS[n] for n in numbers]
        table = pa.table({"image": images, "label": labels}, schema=hub_schema())
        file = root / f"train-{shard:05d}-of-00002.parquet"
        parquet.write_table(table, file, row_group_size=4)
    return f"parquet:{root}"


def write_array_record_file(path: Path, records: list[bytes], options: str = "group_size:1") -> str:
    from array_record.python.array_record_module import ArrayRecordWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    writer = ArrayRecordWriter(str(path), options)
    for record in records:
        writer.write(record)
    writer.close()
    return str(path)


def write_msgpack(root: Path) -> str:
    rows = [
        msgpack.packb({"image": data, "label": LABELS[n], "id": name(n)})
        for n, data in enumerate(jpegs())
    ]
    write_array_record_file(root / "train-0.array_record", rows[:CUT])
    write_array_record_file(root / "train-1.array_record", rows[CUT:])
    (root / "classes.txt").write_text("\n".join(CLASSES))
    return f"array_record:{root}/train-*.array_record"


def write_npz(root: Path) -> str:
    """Decoded pixels, so all of one size: repeated at the edge to 10 rows."""
    images = np.stack([padded(decode(data)) for data in jpegs()])
    root.mkdir(parents=True)
    np.savez(root / "set.npz", image_train=images, label_train=np.array(LABELS))
    return f"npz:{root / 'set.npz'}"


def padded(image: np.ndarray) -> np.ndarray:
    return np.pad(image, ((0, 10 - len(image)), (0, 0), (0, 0)), "edge")


def prepare_tfds(root: Path, file_format: str) -> Path:
    """The set as TFDS prepares it, in a format that it can write: the folder of the version."""
    import tensorflow_datasets as tfds

    class Insects(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(names=CLASSES),
                "file_name": tfds.features.Text(),
                "thumbnail": tfds.features.Tensor(shape=(2,), dtype=np.float32),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                disable_shuffling=True,
            )

        def _split_generators(self, _):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for number, data in enumerate(jpegs()):
                yield (
                    number,
                    {
                        "image": io.BytesIO(data),
                        "label": LABELS[number],
                        "file_name": name(number),
                        "thumbnail": np.zeros(2, np.float32),
                    },
                )

    builder = Insects(data_dir=str(root), file_format=file_format)
    builder.download_and_prepare()
    return Path(builder.data_dir)


def reshard(prepared: Path, folder: Path, file_format: str) -> Path:
    """The array_record set that TFDS prepared, as two shards in another format."""
    from array_record.python.array_record_module import ArrayRecordReader

    (file,) = prepared.glob("*.array_record-*")
    records = ArrayRecordReader(str(file)).read_all()
    folder.mkdir(parents=True)
    for metadata in [*prepared.glob("*.json"), *prepared.glob("*.txt")]:
        shutil.copy(metadata, folder)
    info = json.loads((folder / "dataset_info.json").read_text())
    info["fileFormat"] = file_format
    info["splits"][0]["shardLengths"] = [str(CUT), str(NUM - CUT)]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    for shard, rows in enumerate((records[:CUT], records[CUT:])):
        path = folder / f"insects-train.{file_format}-{shard:05d}-of-00002"
        if file_format == "tfrecord":
            path.write_bytes(b"".join(framed(row) for row in rows))
        elif file_format == "array_record":
            write_array_record_file(path, rows)
        else:
            parquet.write_table(pa.table({"data": rows}), path, row_group_size=3)
    return folder


def framed(record: bytes) -> bytes:
    """A record of a TFRecord file."""
    length = struct.pack("<Q", len(record))
    return length + masked(length) + record + masked(record)


def masked(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
