"""Between arrays over several processes and numpy arrays on each."""

import numpy as np
from jax import Array


def local_rows(array: Array | np.ndarray) -> np.ndarray:
    """This process's rows of an array whose first axis is spread over processes.

    Rows come in the order in which the process put them in (`make_array_from_process_local_data`).
    Everything is returned for numpy arrays, and for arrays that live in one process.
    """
    if isinstance(array, np.ndarray) or array.is_fully_addressable:
        return np.asarray(array)
    # Copies of one row on several devices carry the same index; one of them is enough.
    shards = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
    return np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])


def gather(rows: np.ndarray) -> np.ndarray:
    """Rows of all processes after each other, on every process; all must have as many."""
    import jax

    if jax.process_count() == 1:
        return rows
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(rows, tiled=True))


def total(value: np.ndarray) -> np.ndarray:
    """Sum of an array over processes, on every process."""
    return gather(np.asarray(value)[None]).sum(0)
