"""Which example of a source stands at which position of the training stream."""

import sys
from functools import lru_cache

import grain
import numpy as np

from maskjax.data.random import host_rng
from maskjax.data.source import Source
from maskjax.data.wrap import MixSource

# Sets with fewer examples are shuffled by numpy.
_SMALL = 1024


def training_order(source: Source, seed: int) -> grain.MapDataset:
    """An endless list: position in the stream -> number of the example in the source.

    Epoch after epoch, each another permutation of the source. A mixture draws its parts in their
    shares, each part going through epochs of its own.

    Args:
        source: see ``data.source``.
        seed: 0 <= seed < 2**64.
    """
    if isinstance(source, MixSource):
        parts = [_epochs(len(part), seed, number) for number, part in enumerate(source.parts)]
        return _Mixture(parts, source.starts, source.counts, seed)
    return _epochs(len(source), seed)


def _epochs(size: int, seed: int, number: int = 0) -> grain.MapDataset:
    if size < _SMALL:
        return _SmallEpochs(size, seed, number)
    shuffle_seed = int(host_rng(seed, "shuffle", number).integers(2**32))
    return grain.MapDataset.range(size).shuffle(seed=shuffle_seed).repeat(None)


class _SmallEpochs(grain.MapDataset):
    """Permutations kept for an epoch: Grain's cipher walks 16-bit cycles, a millisecond for each
    example of a set of twenty."""

    def __init__(self, size: int, seed: int, number: int):
        super().__init__()
        self._size, self._seed, self._part = size, seed, number

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, position: int | slice) -> int | grain.MapDataset:
        if isinstance(position, slice):
            return self.slice(position)
        epoch, place = divmod(position, self._size)
        return int(_permutation(self._size, self._seed, self._part, epoch)[place])


@lru_cache(maxsize=64)
def _permutation(size: int, seed: int, number: int, epoch: int) -> np.ndarray:
    return host_rng(seed, "shuffle/small", epoch, number).permutation(size)


class _Mixture(grain.MapDataset):
    """Orders of parts, interleaved; not ``MapDataset.mix``, whose shares are rounded."""

    def __init__(self, orders: list[grain.MapDataset], starts, counts: tuple[int, ...], seed: int):
        super().__init__(orders)
        self._orders, self._counts, self._seed = orders, counts, seed
        self._starts = [int(start) for start in starts]

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, position: int | slice) -> int | grain.MapDataset:
        if isinstance(position, slice):
            return self.slice(position)
        window, row = divmod(position, sum(self._counts))
        parts, ranks = window_rows(self._seed, self._counts, window)
        part, rank = int(parts[row]), int(ranks[row])
        return self._starts[part] + self._orders[part][window * self._counts[part] + rank]


@lru_cache(maxsize=64)
def window_rows(seed: int, counts: tuple[int, ...], window: int) -> tuple[np.ndarray, np.ndarray]:
    """A window of a mixture's stream: the part at each row, and its how-manieth in the window.

    Returns:
        parts, ranks: int[sum(counts)]; part n is there counts[n] times, with ranks 0, 1, ...
    """
    in_order = np.repeat(np.arange(len(counts)), counts)
    parts = host_rng(seed, "mixture", window).permutation(in_order)
    ranks = np.empty_like(parts)
    for part, count in enumerate(counts):
        ranks[parts == part] = np.arange(count)
    return parts, ranks
