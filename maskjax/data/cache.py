"""The cache folder: what was learnt by looking through files once, kept for the next start."""

import hashlib
import io
import logging
import os
import tempfile
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from maskjax.data.files import Entry

log = logging.getLogger(__name__)

Index = dict[str, np.ndarray]
_SETTLED_NS = 2 * 10**9


def folder() -> Path:
    """``$MASKJAX_CACHE``, else ``$XDG_CACHE_HOME/maskjax``, else ``~/.cache/maskjax``."""
    if chosen := os.environ.get("MASKJAX_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "maskjax"


def write(path: Path, data: bytes) -> bool:
    """Writes a file of the cache: whole or not at all, whoever else writes or reads it.

    Returns:
        Whether it could be written. A cache that cannot is slow, not wrong: it is only logged.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            try:
                file.write(data)
                file.close()
                os.replace(file.name, path)
            except OSError:
                os.unlink(file.name)
                raise
    except OSError as error:
        log.warning("cannot write the cache %s: %s (set MASKJAX_CACHE)", path, error)
        return False
    return True


def indexed(
    kind: str, where: str, entries: list[Entry], scan: Callable[[Entry], Index]
) -> list[Index]:
    """``scan`` of every file or directory, from the cache for those that did not change since.

    Args:
        kind: what the index is of, with a version number: "tar-1".
        where: names the set; one file of the cache holds the index of the whole set.
        entries: the files; one is looked through again when its size or its stamp changed.
        scan: entry -> named arrays of any length, with the same names and types for every entry.
    """
    path = folder() / "index" / f"{kind}-{hashlib.sha256(where.encode()).hexdigest()[:24]}.npz"
    known = _load(path)
    todo = [file for file in entries if _key(file) not in known]
    if todo:
        if len(todo) > 16 or sum(file.size for file in todo) > 2**30:
            log.info(
                "indexing %d of %d files of %s; kept in %s", len(todo), len(entries), where, path
            )
        known.update(zip(map(_key, todo), _in_threads(scan, todo), strict=True))
        keep = [file for file in entries if _is_settled(file)]
        if keep:
            _save(path, {_key(file): known[_key(file)] for file in keep})
    return [known[_key(file)] for file in entries]


def _key(file: Entry) -> str:
    return f"{file.size} {file.stamp} {file.path}"


def _is_settled(file: Entry) -> bool:
    """False if the file may change again without a new stamp: times are coarse on some systems."""
    return bool(file.stamp) and time.time_ns() - file.mtime_ns > _SETTLED_NS


def _in_threads(scan: Callable[[Entry], Index], entries: list[Entry]) -> list[Index]:
    if len(entries) == 1:
        return [scan(entries[0])]
    pool = ThreadPoolExecutor(min(32, len(entries)))
    try:
        return list(pool.map(scan, entries))
    finally:
        pool.shutdown(cancel_futures=True)


def _load(path: Path) -> dict[str, Index]:
    """{key: index}; empty if there is no such file or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            keys = file["keys"].tobytes().decode(errors="surrogateescape").split("\0")
            fields = [name.removeprefix("of:") for name in file.files if name.startswith("of:")]
            parts = {
                name: np.split(file[f"of:{name}"], np.cumsum(file[f"lengths:{name}"])[:-1])
                for name in fields
            }
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}
    if any(len(part) != len(keys) for part in parts.values()):
        return {}
    return {key: {name: parts[name][n] for name in fields} for n, key in enumerate(keys)}


def _save(path: Path, known: dict[str, Index]) -> None:
    keys = "\0".join(known).encode(errors="surrogateescape")
    arrays = {"keys": np.frombuffer(keys, np.uint8)}
    for name in next(iter(known.values())):
        arrays[f"of:{name}"] = np.concatenate([index[name] for index in known.values()])
        arrays[f"lengths:{name}"] = np.array([len(index[name]) for index in known.values()])
    data = io.BytesIO()
    np.savez(data, **arrays)
    write(path, data.getvalue())
