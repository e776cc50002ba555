"""Lists of the files in many folders, kept in the cache until a folder changes."""

import os

import numpy as np

from maskjax.data import cache, files
from maskjax.data.cache import Index


def list_below(root: str, folders: list[str]) -> dict[str, list[str]]:
    """All files below each of some folders of root: folder -> paths below it, sorted.

    Folders are entered through symbolic links too, but no folder twice for the same one of
    ``folders``, and never ``root`` or one above: a link to an outer folder ends there. A folder is
    listed again when its modification time changed; on an object store always.

    Args:
        root: holds the folders.
        folders: their names.
    """
    found: dict[str, list[str]] = {name: [] for name in folders}
    seen = {name: _outer(root) | {_real(files.join(root, name))} for name in folders}
    level = [(name, "") for name in folders]
    depth = 0
    while level:
        paths = [files.join(files.join(root, name), below) for name, below in level]
        listed = cache.indexed("folder-1", f"{root} {depth}", _entries(paths), _list)
        following = []
        for (name, below), names in zip(level, listed, strict=True):
            found[name] += [below + file for file in _unpack(names["files"])]
            for inner in _unpack(names["folders"]):
                real = _real(files.join(files.join(root, name), below + inner))
                if real not in seen[name]:
                    seen[name].add(real)
                    following.append((name, f"{below}{inner}/"))
        level, depth = following, depth + 1
    return {name: sorted(paths) for name, paths in found.items()}


def _entries(paths: list[str]) -> list[files.Entry]:
    if paths and files.is_remote(paths[0]):
        # No stamp: what a store holds below a name is listed every time.
        return [files.Entry(path, 0, "", is_dir=True) for path in paths]
    found = [files.entry(path) for path in paths]
    return [place or files.Entry(path, 0, "") for path, place in zip(paths, found, strict=True)]


def _list(folder: files.Entry) -> Index:
    names, folders = files.scan(folder.path)
    return {"files": _pack(names), "folders": _pack(folders)}


def _pack(names: list[str]) -> np.ndarray:
    return np.frombuffer("\0".join(names).encode(errors="surrogateescape"), np.uint8)


def _unpack(data: np.ndarray) -> list[str]:
    text = data.tobytes().decode(errors="surrogateescape")
    return text.split("\0") if text else []


def _real(path: str) -> str:
    return path if files.is_remote(path) else os.path.realpath(path)


def _outer(path: str) -> set[str]:
    """The real paths of a folder and of those above it."""
    real = _real(path)
    return {real[:end] or "/" for end, letter in enumerate(real) if letter == "/"} | {real}
