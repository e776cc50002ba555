"""``folder:DIR``: image files, DIR/<split>/<class>/FILE or without classes."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from maskjax.data.sources.folder_labels import LABELS_FILE, class_names, read_labels, to_numbers
from maskjax.errors import UserError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")


def build(argument: str, split: str) -> "FolderSource":
    """Lists the images of a split; reads no image.

    Where they are looked for: in DIR/<split>; in DIR itself if the split is "all", or if there is
    no DIR/<split> and DIR holds images directly (they are then every split). Below that either one
    folder per class (sorted by name; the splits of DIR share one numbering even when one of them
    lacks a class), or images directly, with labels from labels.csv when that file is there.
    Extensions are compared without case; names that start with a dot are ignored.
    """
    root = Path(argument).expanduser()
    if not argument or not root.is_dir():
        raise UserError(f"folder:{argument}: there is no directory {root.absolute()}")
    folder = _split_folder(root, split)
    files, directories = _list(folder)
    members = {name: _list(folder / name)[0] for name in directories}
    if any(members.values()):
        if files:
            raise UserError(
                f"{folder} holds both images ({files[0]}, ...) and class folders; move the images"
                " into class folders, or point at one of the folders"
            )
        return _with_class_folders(root, folder, members)
    if not files:
        raise UserError(
            f"{folder.absolute()} holds no image ({', '.join(EXTENSIONS)}), neither directly nor in"
            f" class folders; it holds {_what(folder)}"
        )
    return _flat(root, folder, files)


class FolderSource:
    """Encoded image files by path; the id is the path below the root, with forward slashes.

    Args:
        root: the folder that the ids are relative to.
        names: paths below root.
        labels: int[N] or None.
        class_names: one name per label, or None.
    """

    def __init__(
        self,
        root: str,
        names: list[str],
        labels: np.ndarray | None = None,
        class_names: tuple[str, ...] | None = None,
    ):
        self.root, self.names, self.labels, self.class_names = root, names, labels, class_names

    def __len__(self) -> int:
        return len(self.names)

    def ids(self) -> list[str]:
        """The id of every image."""
        return self.names

    def __getitem__(self, index: int) -> dict[str, Any]:
        name = self.names[index]
        try:
            image = Path(self.root, name).read_bytes()
        except OSError as error:
            raise UserError(f"cannot read image {Path(self.root, name)}: {error}") from error
        example = {"image": image, "id": name}
        if self.labels is not None:
            example["label"] = int(self.labels[index])
        return example


def _split_folder(root: Path, split: str) -> Path:
    if split and (root / split).is_dir():
        return root / split
    if split in ("", "all") or _list(root)[0]:
        return root
    raise UserError(
        f"{root.absolute()} has no split {split!r} (no folder {root.absolute() / split}) and no"
        f" images of its own; it holds {_what(root)}. The split 'all' reads {root} itself"
    )


def _with_class_folders(root: Path, folder: Path, members: dict[str, list[str]]) -> FolderSource:
    names = class_names(root, folder)
    numbers = {name: number for number, name in enumerate(names)}
    prefix = _prefix(root, folder)
    paths = [f"{prefix}{name}/{file}" for name, files in members.items() for file in files]
    labels = [numbers[name] for name, files in members.items() for _ in files]
    return FolderSource(str(root.absolute()), paths, np.array(labels, np.int32), names)


def _flat(root: Path, folder: Path, files: list[str]) -> FolderSource:
    paths = [f"{_prefix(root, folder)}{file}" for file in files]
    if not (folder / LABELS_FILE).is_file():
        return FolderSource(str(root.absolute()), paths)
    texts = read_labels(folder)
    if lacking := [file for file in files if file not in texts]:
        raise UserError(f"{folder / LABELS_FILE} has no label for {lacking[0]}")
    if surplus := sorted(texts.keys() - set(files)):
        raise UserError(f"{folder / LABELS_FILE} names {surplus[0]}, which is not in {folder}")
    labels, names = to_numbers([texts[file] for file in files], root, folder)
    return FolderSource(str(root.absolute()), paths, labels, names)


def _prefix(root: Path, folder: Path) -> str:
    return "" if folder == root else f"{folder.relative_to(root).as_posix()}/"


def _list(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the images and of the directories in a folder, each sorted."""
    files, directories = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.name.lower().endswith(EXTENSIONS):
                    files.append(entry.name)
                elif entry.is_dir():
                    directories.append(entry.name)
    except OSError as error:
        raise UserError(f"cannot list {folder}: {error}") from error
    return sorted(files), sorted(directories)


def _what(folder: Path) -> str:
    names = sorted(os.listdir(folder))
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return shown or "nothing"
