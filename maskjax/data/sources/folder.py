"""``folder:DIR``: image files, DIR/<split>/<class>/FILE or without classes."""

from typing import Any

import numpy as np

from maskjax.data import files
from maskjax.data.sources.checks import SPLITS, match_split
from maskjax.data.sources.folder_labels import LABELS_FILE, class_names, read_labels, to_numbers
from maskjax.data.sources.folder_list import list_below
from maskjax.data.sources.formats import EXTENSIONS, is_image
from maskjax.data.sources.listed import ListedSource
from maskjax.data.sources.packed import PackedNames
from maskjax.errors import UserError


def build(argument: str, split: str) -> "FolderSource":
    """Lists the images of a split; reads no image.

    Where they are looked for: in DIR/<split>; in DIR itself if the split is "all", or if there is
    no DIR/<split> and DIR holds images directly (they are then every split). Below that either one
    folder per class (sorted by name; the splits of DIR share one numbering even when one of them
    lacks a class), or images directly, with labels from labels.csv when that file is there. Class
    folders may hold further folders. Extensions are compared without case; names that start with a
    dot are ignored; symbolic links are followed (see ``folder_list``). The list of a local folder
    is kept in the cache folder and checked by modification times.
    """
    root = files.absolute(argument) if argument else ""
    if not argument or not files.is_dir(root):
        raise UserError(f"folder:{argument}: there is no directory {root or '(none was named)'}")
    folder = _split_folder(root, split)
    names, directories = files.scan(folder)
    images = list(filter(is_image, names))
    members = {
        name: list(filter(is_image, below))
        for name, below in list_below(folder, directories).items()
    }
    if any(members.values()):
        if images:
            raise UserError(
                f"{folder} holds both images ({images[0]}, ...) and class folders; move the images"
                " into class folders, or point at one of the folders"
            )
        return _with_class_folders(root, folder, members)
    if not images:
        raise UserError(
            f"{folder} holds no image ({', '.join(EXTENSIONS)}), neither directly nor in class"
            f" folders; it holds {files.summary(folder)}"
        )
    return _flat(root, folder, images)


class FolderSource(ListedSource):
    """Encoded image files by path; the id is the path below the root, with forward slashes."""

    def content(self, index: int) -> dict[str, Any]:
        """{"image": bytes}."""
        return {"image": files.read(files.join(self.root, self.names[index]))}


def _split_folder(root: str, split: str) -> str:
    names, folders = files.scan(root)
    if split and (found := match_split(split, folders)):
        return files.join(root, found)
    splits = [name for name in folders if name in SPLITS]
    if any(map(is_image, names)) or (split in ("", "all") and not splits):
        return root
    if split in ("", "all"):
        raise UserError(f"{root} holds several splits, name one of them: {', '.join(splits)}")
    raise UserError(
        f"{root} has no split {split!r} (no folder {files.join(root, split)}) and no images of its"
        f" own; it holds {files.summary(root)}. The split 'all' reads {root} itself"
    )


def _with_class_folders(root: str, folder: str, members: dict[str, list[str]]) -> FolderSource:
    names = class_names(root, folder)
    numbers = {name: number for number, name in enumerate(names)}
    prefix = _prefix(root, folder)
    paths = [f"{prefix}{name}/{file}" for name, found in members.items() for file in found]
    counts = [len(found) for found in members.values()]
    labels = np.repeat(np.array([numbers[name] for name in members], np.int32), counts)
    return FolderSource(root, PackedNames.of(paths), labels, names)


def _flat(root: str, folder: str, images: list[str]) -> FolderSource:
    paths = PackedNames.of(_prefix(root, folder) + image for image in images)
    labels_file = files.join(folder, LABELS_FILE)
    if not files.is_file(labels_file):
        return FolderSource(root, paths)
    texts = read_labels(folder)
    if lacking := [image for image in images if image not in texts]:
        raise UserError(f"{labels_file} has no label for {lacking[0]}")
    if surplus := sorted(texts.keys() - set(images)):
        raise UserError(f"{labels_file} names {surplus[0]}, which is not in {folder}")
    labels, names = to_numbers([texts[image] for image in images], root, folder)
    return FolderSource(root, paths, labels, names)


def _prefix(root: str, folder: str) -> str:
    return "" if folder == root else f"{folder.removeprefix(root).strip('/')}/"
