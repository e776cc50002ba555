"""The ids of all examples, also of sources that only know them by reading."""

import hashlib
import io
import logging
import pickle
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from maskjax.data import cache
from maskjax.data.sources.packed import PackedNames

if TYPE_CHECKING:
    from maskjax.data.source import Source

log = logging.getLogger(__name__)

# So many of the ids that were kept are compared with the data before they are believed.
_PROBES = 64


def source_ids(source: "Source") -> Sequence[str]:
    """The id of every example.

    A source without ``ids()`` is read through, once: what was found is kept in the cache folder, by
    what the source pickles to (its files, splits and sizes).
    """
    if hasattr(source, "ids"):
        return source.ids()
    digest = hashlib.sha256(pickle.dumps(source)).hexdigest()[:24]
    path = cache.folder() / "ids" / f"{digest}.npz"
    names = _kept(path, source)
    if names is None:
        names = _read(source)
        data = io.BytesIO()
        np.savez(data, data=names.data, ends=names.ends)
        cache.write(path, data.getvalue())
    return names


def _kept(path: Path, source: "Source") -> PackedNames | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            names = PackedNames(file["data"], file["ends"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    probes = np.unique(np.linspace(0, len(source) - 1, _PROBES).astype(int)).tolist()
    right = len(names) == len(source) and _ids(source, probes) == [names[n] for n in probes]
    return names if right else None


def _read(source: "Source") -> PackedNames:
    if len(source) > 10_000:
        log.info("reading all %d examples for their ids", len(source))
    return PackedNames.of(_ids(source, range(len(source))))


def _ids(source: "Source", numbers: Sequence[int]) -> list[str]:
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda number: source[number]["id"], numbers))
