"""Training streams of any kind of data, for comparison."""

import numpy as np

from maskjax.data.source import resolve
from maskjax.data.train import train_iterator


def take(spec, transform, batches, size=4, processes=1, start=0, **options):
    """The next batches of all processes, put one after another as a global array has them."""
    parts = []
    for index in range(processes):
        with train_iterator(
            resolve(spec, "train"),
            transform,
            seed=3,
            global_batch=size,
            process_index=index,
            process_count=processes,
            start=start,
            **options,
        ) as stream:
            parts.append([next(stream) for _ in range(batches)])
    rows = [part for step in zip(*parts, strict=True) for part in step]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def same(one, other):
    """Whether two streams hold the same fields with the same values."""
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


def assert_one_stream(spec, transform, **options):
    """1, 2 and 4 processes, and a resumption in the middle, give the same examples."""
    whole = take(spec, transform, 3, **options)
    for processes in (2, 4):
        assert same(take(spec, transform, 3, processes=processes, **options), whole)
    resumed = take(spec, transform, 1, processes=2, start=6, **options)
    assert same(resumed, {name: rows[6:10] for name, rows in whole.items()})
    shapes = {name: (rows.shape[1:], rows.dtype) for name, rows in whole.items()}
    fields = transform.fields()
    assert {name: shapes[name] for name in fields} == fields
    return whole
