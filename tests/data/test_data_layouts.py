"""One image set in several layouts: the same pixels, labels and order through every reader."""

import numpy as np
import pytest
from image_files import encode, write

from maskjax.data.evaluate import evaluation_batches
from maskjax.data.source import resolve
from maskjax.data.train import train_iterator
from maskjax.data.transforms import EvalTransform, TrainTransform

LABELS = np.array([0, 0, 1, 1])


@pytest.fixture
def layouts(tmp_path, image_folder, pictures):
    """{name: spec} of the four training pictures."""
    flat = tmp_path / "flat"
    for number in range(4):
        write(flat / f"train/{number}.png", encode(pictures[number]))
    rows = "".join(f"{number}.png,{'ant' if number < 2 else 'bee'}\n" for number in range(4))
    (flat / "train/labels.csv").write_text(rows)
    webp = tmp_path / "webp"
    for number, name in enumerate(["ant/0", "ant/1", "bee/0", "bee/1"]):
        write(webp / f"train/{name}.WEBP", encode(pictures[number], "WEBP", lossless=True))
    np.savez(tmp_path / "whole.npz", image=pictures[:4], label=LABELS)
    np.savez(tmp_path / "split.npz", image_train=pictures[:4], label_train=LABELS)
    return {
        "folder": f"folder:{image_folder}",
        "flat": f"folder:{flat}",
        "webp": f"folder:{webp}",
        "npz": f"npz:{tmp_path / 'whole.npz'}",
        "npz splits": f"npz:{tmp_path / 'split.npz'}",
    }


@pytest.mark.parametrize("name", ["folder", "flat", "webp", "npz", "npz splits"])
def test_evaluation_reads_the_same(layouts, pictures, name):
    source = resolve(layouts[name], "train")
    (batch,) = evaluation_batches(source, EvalTransform((9, 7)), batch_size=4)
    assert np.array_equal(batch["image"], pictures[:4])
    assert np.array_equal(batch["label"], LABELS)


def test_training_reads_the_same(layouts):
    batches = {}
    for name, spec in layouts.items():
        transform = TrainTransform((6, 6))
        with train_iterator(resolve(spec, "train"), transform, seed=1, global_batch=10) as stream:
            batches[name] = next(stream)
    first = batches.pop("folder")
    for other in batches.values():
        assert other.keys() == first.keys()
        assert all(np.array_equal(other[key], first[key]) for key in first)
