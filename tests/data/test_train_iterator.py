"""The training stream: the same for every number of processes and workers, exact to resume."""

import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax.data.random import host_rng
from maskjax.data.source import resolve
from maskjax.data.train import train_iterator
from maskjax.data.transforms import TrainTransform
from maskjax.errors import UserError

COUNT = 10
SPEC = f"synthetic:12x10x3:{COUNT}:5"
TRANSFORM = TrainTransform((8, 8), scale=(0.3, 1.0))


def join(parts):
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def take(num_batches, global_batch=8, processes=1, workers=0, start=0, seed=3):
    """The next batches of all processes, put one after another as a global array has them."""
    runs = []
    for index in range(processes):
        with train_iterator(
            resolve(SPEC, "train"),
            TRANSFORM,
            seed=seed,
            global_batch=global_batch,
            process_index=index,
            process_count=processes,
            workers=workers,
            start=start,
        ) as stream:
            runs.append([next(stream) for _ in range(num_batches)])
            assert stream.state() == start + num_batches * global_batch
    return join([join(step) for step in zip(*runs, strict=True)])


@cache
def reference():
    """The first 48 examples: nearly five epochs, in batches of 8."""
    return take(6)


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


def part(stream, start, stop):
    return {key: value[start:stop] for key, value in stream.items()}


def numbers(stream):
    return stream["position"][:, 0].astype(int) * 2**32 + stream["position"][:, 1]


def test_types():
    shapes = {key: (value.dtype, value.shape) for key, value in reference().items()}
    assert shapes == {
        "image": (np.uint8, (48, 8, 8, 3)),
        "label": (np.int32, (48,)),
        "position": (np.uint32, (48, 2)),
    }


def test_positions_count_on_over_the_epochs():
    assert numbers(reference()).tolist() == list(range(48))


def test_every_epoch_is_another_permutation_with_other_draws():
    source = resolve(SPEC, "train")
    images = [source[i]["image"] for i in range(COUNT)]
    epochs = []
    for epoch in range(4):
        order = []
        for position in range(epoch * COUNT, (epoch + 1) * COUNT):
            # An example is known by what its position's draws make of it.
            made = [
                TRANSFORM({"image": image, "id": ""}, host_rng(3, "augment", position))
                for image in images
            ]
            order += [
                i for i in range(COUNT) if np.array_equal(made[i], reference()["image"][position])
            ]
        epochs.append(order)
    assert all(sorted(order) == list(range(COUNT)) for order in epochs)
    assert len({tuple(order) for order in epochs}) == 4


def test_seeds_differ():
    assert not same(reference(), take(6, seed=4))


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_process_count_does_not_matter(processes):
    assert same(take(6, processes=processes), reference())


@pytest.mark.parametrize(("processes", "workers"), [(1, 1), (1, 2), (2, 2)])
def test_worker_count_does_not_matter(processes, workers):
    assert same(take(6, processes=processes, workers=workers), reference())


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 40), st.sampled_from([(2, 1), (4, 2), (6, 3), (8, 4), (3, 1)]))
def test_resumes_anywhere_with_another_batch_and_process_count(start, sizes):
    global_batch, processes = sizes
    stop = start + global_batch * max(1, (48 - start) // global_batch)
    got = take((stop - start) // global_batch, global_batch, processes, start=start)
    assert same(part(got, 0, 48 - start), part(reference(), start, stop))


@pytest.mark.parametrize(("start", "workers"), [(16, 2), (13, 1)])
def test_resumes_with_another_worker_count(start, workers):
    got = take(3, workers=workers, start=start)
    assert same(got, part(reference(), start, start + 24))


def test_positions_beyond_32_bits():
    start = 2**35 + 7
    got = take(2, start=start)
    assert numbers(got).tolist() == list(range(start, start + 16))
    assert same(take(1, start=start + 8, processes=2), part(got, 8, 16))


def test_a_source_smaller_than_the_batch_repeats():
    got = take(1, global_batch=32)
    assert same(got, part(reference(), 0, 32))


def test_a_source_of_one_image():
    source = resolve("synthetic:8x8x3:1", "train")
    with train_iterator(source, TRANSFORM, seed=0, global_batch=4) as stream:
        batch = next(stream)
    assert batch["image"].shape == (4, 8, 8, 3)
    assert "label" not in batch
    assert len(np.unique(batch["image"].reshape(4, -1), axis=0)) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"global_batch": 6, "process_count": 4}, "positive multiple of the 4 processes, found 6"),
        ({"global_batch": 0}, "found 0"),
        ({"process_index": 1}, "process_index 1 is not one of 1 processes"),
        ({"seed": -1}, "seed must not be negative"),
        ({"start": -8}, "start must not be negative, found -8"),
        ({"workers": -1}, "workers must not be negative"),
    ],
)
def test_wrong_numbers(options, message):
    with pytest.raises(UserError, match=message):
        train_iterator(
            resolve(SPEC, "train"), TRANSFORM, **{"seed": 0, "global_batch": 8, **options}
        )


def test_empty_source():
    with pytest.raises(UserError, match="the training source is empty"):
        train_iterator([], TRANSFORM, seed=0, global_batch=8)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named(image_folder, workers):
    (image_folder / "train/ant/1.png").write_bytes(b"???")
    source = resolve(f"folder:{image_folder}", "train")
    with (
        train_iterator(source, TRANSFORM, seed=0, global_batch=8, workers=workers) as stream,
        pytest.raises(UserError, match=r"cannot decode image 'train/ant/1.png'"),
    ):
        next(stream)


def test_closed():
    stream = train_iterator(resolve(SPEC, "train"), TRANSFORM, seed=0, global_batch=8)
    next(stream)
    stream.close()
    stream.close()
    assert stream.state() == 8
    with pytest.raises(ValueError, match="was closed"):
        next(stream)


SCRIPT = """
import sys
from maskjax.data.source import resolve
from maskjax.data.train import train_iterator
from maskjax.data.transforms import TrainTransform
if __name__ == "__main__":
    source = resolve("synthetic:12x10x3:10:5", "train")
    it = train_iterator(source, TrainTransform((40, 40)), seed=0, global_batch=4, workers=2)
    print(next(it)["image"].shape, "flax" in sys.modules)
    if sys.argv[1] == "close":
        it.close()
"""


@pytest.mark.parametrize("ending", ["close", "forget"])
def test_workers_run_from_a_plain_script_and_end_with_it(tmp_path, ending):
    """Outside of absl's app.run nobody parses the flags that Grain reads."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, path, ending], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "(4, 40, 40, 3) False\n", done.stderr
    assert done.returncode == 0
    # Batches of this size travel in shared memory, of which nothing may be left over.
    assert "Traceback" not in done.stderr
    assert "resource_tracker" not in done.stderr
