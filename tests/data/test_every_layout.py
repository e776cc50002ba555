"""One image set in every layout: the same pixels, labels and order through every reader."""

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import layout_files as layouts
import numpy as np
import pytest

from maskjax.data.decode import decode
from maskjax.data.source import Source, resolve
from maskjax.data.train import train_iterator
from maskjax.data.transforms import TrainTransform

WRITERS = {
    "folder": layouts.write_folder,
    "flat": layouts.write_flat,
    "wds": layouts.write_wds,
    "parquet": layouts.write_parquet,
    "array_record msgpack": layouts.write_msgpack,
    "npz": layouts.write_npz,
}
TFDS = [
    f"tfds {form}" for form in ("prepared", "array_record", "parquet", "tfrecord", "tfrecord crc")
]
NAMES = [*WRITERS, *TFDS, "tfds by parquet", "array_record features", "no kind"]


@pytest.fixture(scope="module")
def specs(tmp_path_factory):
    """{layout: spec}."""
    root = tmp_path_factory.mktemp("layouts")
    found = {form: write(root / form.replace(" ", "_")) for form, write in WRITERS.items()}
    prepared = layouts.prepare_tfds(root / "prepared", "array_record")
    found["tfds prepared"] = f"tfds:insects@{root / 'prepared'}"
    found["no kind"] = str(prepared)
    layouts.prepare_tfds(root / "by_parquet", "parquet")
    found["tfds by parquet"] = f"tfds:insects:1.0.0@{root / 'by_parquet'}"
    for form in ("array_record", "parquet", "tfrecord"):
        folder = layouts.reshard(prepared, root / "again" / form / "1.0.0", form)
        found[f"tfds {form}"] = f"tfds:{folder}"
    found["tfds tfrecord crc"] = f"{found['tfds tfrecord']}#verify=crc"
    found["array_record features"] = f"array_record:{root / 'again/array_record/1.0.0'}"
    return found


@pytest.fixture(params=NAMES)
def source(specs, request) -> Source:
    return resolve(specs[request.param], "train")


def pixels(example) -> np.ndarray:
    return layouts.padded(decode(example["image"], 3, example["id"]))


def test_pixels_labels_and_order_are_the_same(source):
    assert isinstance(source, Source)
    examples = [source[number] for number in range(len(source))]
    assert len(examples) == layouts.NUM
    for example, data in zip(examples, layouts.jpegs(), strict=True):
        assert np.array_equal(pixels(example), layouts.padded(decode(data)))
    assert [example["label"] for example in examples] == layouts.LABELS
    assert all(type(example["label"]) is int for example in examples)
    assert len({example["id"] for example in examples}) == layouts.NUM
    assert source.class_names in (None, layouts.CLASSES)
    with pytest.raises(IndexError):
        source[layouts.NUM]
    assert source[-1]["id"] == examples[-1]["id"]


def test_only_npz_lacks_class_names(specs):
    unnamed = {form for form in NAMES if not resolve(specs[form], "train").class_names}
    assert unnamed == {"npz"}


def test_pickles_small_and_reads_again(source):
    first = source[5]  # Opens files: a copy must not share them.
    data = pickle.dumps(source)
    assert len(data) < 20_000
    again = pickle.loads(data)[5]
    assert again.keys() == first.keys()
    assert np.array_equal(pixels(again), pixels(first))
    assert again["id"] == first["id"]


def test_threads_read_the_same(source):
    numbers = np.random.default_rng(0).integers(layouts.NUM, size=200).tolist()
    with ThreadPoolExecutor(8) as pool:
        examples = list(pool.map(source.__getitem__, numbers))
    labels = np.array(layouts.LABELS)[numbers]
    assert [example["label"] for example in examples] == labels.tolist()
    expected = [layouts.padded(decode(data)) for data in layouts.jpegs()]
    for number, example in zip(numbers, examples, strict=True):
        assert np.array_equal(pixels(example), expected[number])


def test_training_batches_are_the_same(specs):
    transform, batches = TrainTransform((6, 6)), {}
    for form in ("folder", "wds", "parquet", "tfds prepared", "tfds tfrecord", "tfds parquet"):
        with train_iterator(
            resolve(specs[form], "train"), transform, seed=1, global_batch=40
        ) as batch:
            batches[form] = next(batch)
    first = batches.pop("folder")
    for other in batches.values():
        assert all(np.array_equal(other[key], first[key]) for key in first)


def test_no_tensorflow(specs):
    """In a process that imports nothing else, with every layout read and no network."""
    code = (
        "import sys\nfrom maskjax.data.source import resolve\n"
        f"for spec in {list(specs.values())!r}:\n    resolve(spec, 'train')[0]\n"
        "assert 'tensorflow' not in sys.modules and 'torch' not in sys.modules\n"
        "assert 'tensorflow_datasets' in sys.modules\n"
    )
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
