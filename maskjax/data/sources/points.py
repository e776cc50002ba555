"""``points:DIR`` or ``points:FILE.npz``: point clouds and meshes, with or without classes."""

from functools import cached_property
from typing import Any

import numpy as np

from maskjax.data import files
from maskjax.data.point_file import is_cloud, read_points
from maskjax.data.sources import tree
from maskjax.data.sources.checks import match_split
from maskjax.data.sources.listed import ListedSource
from maskjax.data.sources.npz import read_headers
from maskjax.errors import UserError

KIND = "points"


def build(argument: str, split: str) -> ListedSource:
    """DIR/<split>/<class>/FILE, DIR/<split>/FILE, or DIR/<class>/<split>/FILE as in ModelNet.

    FILE: npz, npy, off, ply, obj or stl; see ``data.point_file``. FILE.npz holds points[N, P, 3]
    and, if there are labels, label[N]; or points_<split> and label_<split>.
    """
    source, root = f"points:{argument}", files.absolute(argument) if argument else ""
    if root.lower().endswith(".npz"):
        return _build_npz(source, root, split)
    there = files.scan(root)[1] if root and files.is_dir(root) else []
    if split in ("", "all") or match_split(split, there):
        folder = tree.split_folder(source, root, split)
        items = tree.find(folder, tree.sibling_folders(root, split), "point clouds", is_cloud)
        prefix = folder.removeprefix(root).lstrip("/")
        names = [f"{prefix}/{name}".lstrip("/") for name in items.names]
        return CloudSource(root, names, items.labels, items.class_names)
    items = _class_first(root, there, split)
    if items is None:
        tree.split_folder(source, root, split)  # Raises: there is no such folder.
    return CloudSource(root, *items)


class CloudSource(ListedSource):
    """One file for each cloud."""

    kind = KIND

    def content(self, index: int) -> dict[str, Any]:
        """{"points": float32[N, 3]}."""
        name = self.names[index]
        return {"points": read_points(files.join(self.root, name), name)}


class CloudArraySource(ListedSource):
    """Clouds of one size in an npz file, which each process loads when it first needs them.

    Args:
        path: of the file.
        key: of the array [N, P, 3].
        count: N.
        labels: int[N] or None.
    """

    kind = KIND

    def __init__(self, path: str, key: str, count: int, labels: np.ndarray | None):
        super().__init__(path, [f"{number:06d}" for number in range(count)], labels)
        self.key = key

    @cached_property
    def _clouds(self) -> np.ndarray:
        return _array(self.root, self.key)

    def __getstate__(self) -> dict[str, Any]:
        # Workers load for themselves: the arrays would travel through a pipe otherwise.
        return {key: value for key, value in self.__dict__.items() if key != "_clouds"}

    def content(self, index: int) -> dict[str, Any]:
        """{"points": [P, 3]}."""
        return {"points": self._clouds[index]}


def _class_first(root: str, classes: list[str], split: str) -> tree.Items | None:
    folders = {name: files.join(files.join(root, name), split) for name in classes}
    found = {name: files.scan(path)[0] for name, path in folders.items() if files.is_dir(path)}
    names = [
        (n, f"{name}/{split}/{file}")
        for n, name in enumerate(classes)
        for file in found.get(name, ())
        if is_cloud(file)
    ]
    if not names:
        return None
    labels = np.array([n for n, _ in names], np.int32)
    return tree.Items([name for _, name in names], labels, tuple(classes))


def _array(path: str, key: str) -> np.ndarray:
    with files.open_file(path) as raw, np.load(raw, allow_pickle=False) as file:
        return file[key]


def _build_npz(source: str, path: str, split: str) -> CloudArraySource:
    if not files.is_file(path):
        raise UserError(f"{source}: there is no file {path}")
    headers = read_headers(path)
    suffix = f"_{split}" if f"points_{split}" in headers else ""
    key, label_key = f"points{suffix}", f"label{suffix}"
    if key not in headers:
        raise UserError(f"{path} has no array points_{split} and no points; it has {list(headers)}")
    shape = headers[key].shape
    if len(shape) != 3 or shape[2] < 3 or 0 in shape:
        raise UserError(f"{path}: {key} must be [N, P, 3], found {list(shape)}")
    labels = None
    if label_key in headers:
        labels = _array(path, label_key).reshape(-1)
        if labels.dtype.kind not in "iu" or len(labels) != shape[0]:
            raise UserError(
                f"{path}: {label_key} must be {shape[0]} integers, found {labels.dtype}"
                f" {list(headers[label_key].shape)}"
            )
    return CloudArraySource(path, key, shape[0], labels)
