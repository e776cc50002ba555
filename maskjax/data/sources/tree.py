"""Items in folders, DIR/<split>/<class>/ITEM or DIR/<split>/ITEM, whatever an item is."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from maskjax.data import files
from maskjax.data.sources.checks import SPLITS, match_split
from maskjax.errors import UserError


class Items(NamedTuple):
    """names: paths below the folder; labels: int32[N] or None; class_names: or None."""

    names: list[str]
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] | None = None


def split_folder(source: str, root: str, split: str) -> str:
    """root/<split>, or root itself for the split "all"; any word for validation finds another.

    Raises:
        UserError: there is no such folder.
    """
    if not root or not files.is_dir(root):
        raise UserError(f"{source}: there is no directory {files.absolute(root) if root else ''}")
    if split in ("", "all"):
        return root
    found = match_split(split, files.scan(root)[1])
    if found is None:
        raise UserError(
            f"{source} has no split {split!r}: there is no folder {files.join(root, split)}; {root}"
            f" holds {files.summary(root)} (the split 'all' reads {root} itself)"
        )
    return files.join(root, found)


def sibling_folders(root: str, split: str, below: str = "") -> list[str]:
    """root/<split>/<below> of the usual splits and of this one, those that are there.

    Classes are numbered over all of them: a split that lacks a class must not shift the labels.
    """
    if split in ("", "all"):
        return [files.join(root, below)]
    folders = [files.join(files.join(root, name), below) for name in {*SPLITS, split}]
    return sorted(folder for folder in folders if files.is_dir(folder))


def find(
    folder: str,
    siblings: list[str],
    what: str,
    is_item: Callable[[str], bool],
    is_part: Callable[[str], bool] | None = None,
) -> Items:
    """The items of a split, sorted by class and name; folders of classes may hold further folders.

    Args:
        folder: of the split.
        siblings: the same folder of all splits; see ``sibling_folders``.
        what: the items are called, in messages.
        is_item: whether the file of this name is an item.
        is_part: whether the file of this name makes the folder it lies in an item; the first folder
            decides for those beside it.

    Raises:
        UserError: there are none, or some lie beside the folders of classes.
    """
    plain, directories = _items(folder, is_item, is_part)
    if plain:
        if directories:
            raise UserError(
                f"{folder} holds both {what} ({plain[0]}, ...) and other folders"
                f" ({directories[0]}, ...); put all of them into folders of classes, or none"
            )
        return Items(plain)
    names = _below(folder, directories, is_item, is_part)
    if not names:
        raise UserError(
            f"{folder} holds no {what}, neither directly nor in folders of classes; it holds"
            f" {files.summary(folder)}"
        )
    return labelled(names, siblings)


def labelled(names: list[str], siblings: list[str]) -> Items:
    """Items with the first folder of their path as the class, or without labels if none has one.

    Raises:
        UserError: some have one, and some do not.
    """
    classes = [name.partition("/")[0] for name in names if "/" in name]
    if not classes:
        return Items(names)
    if len(classes) < len(names):
        bare = next(name for name in names if "/" not in name)
        raise UserError(
            f"{siblings[0]} and the folders beside it hold both {bare} and folders such as"
            f" {classes[0]}; put all of them into folders of classes, or none"
        )
    known = tuple(sorted({name for sibling in siblings for name in files.scan(sibling)[1]}))
    numbers = {name: number for number, name in enumerate(known)}
    return Items(names, np.array([numbers[name] for name in classes], np.int32), known)


def common_stems(folders: list[str], is_item: Callable[[str], bool]) -> dict[str, tuple[str, ...]]:
    """{path without extension: its path below each folder}, sorted, over all levels of folders.

    Raises:
        UserError: a stem is in one folder and not in another, or in one twice.
    """
    found = [_stems(folder, is_item) for folder in folders]
    for folder, stems in zip(folders, found, strict=True):
        for other, theirs in zip(folders, found, strict=True):
            if lacking := sorted(theirs.keys() - stems.keys()):
                raise UserError(
                    f"{folder} lacks {len(lacking)} of the {len(theirs)} examples of {other}:"
                    f" {', '.join(lacking[:3])}{', ...' if len(lacking) > 3 else ''}"
                )
    if not found[0]:
        raise UserError(f"{folders[0]} holds no pictures; it holds {files.summary(folders[0])}")
    return {stem: tuple(stems[stem] for stems in found) for stem in sorted(found[0])}


def _stems(folder: str, is_item: Callable[[str], bool], below: str = "") -> dict[str, str]:
    here, directories = files.scan(files.join(folder, below))
    stems: dict[str, str] = {}
    for name in filter(is_item, here):
        path = f"{below}/{name}".lstrip("/")
        if other := stems.get(stem := path.rpartition(".")[0]):
            raise UserError(f"{folder} holds both {other} and {path}: which one is meant?")
        stems[stem] = path
    for name in directories:
        stems |= _stems(folder, is_item, f"{below}/{name}".lstrip("/"))
    return stems


def _below(folder: str, directories: list[str], is_item, is_part) -> list[str]:
    """The items in some folders of a folder, and in the folders inside of them."""
    names = []
    for directory in directories:
        place = files.join(folder, directory)
        here, further = _items(place, is_item, is_part)
        found = here + _below(place, further, is_item, is_part)
        names += [f"{directory}/{name}" for name in found]
    return names


def _items(folder: str, is_item: Callable, is_part: Callable | None) -> tuple[list, list]:
    """The items directly in a folder, and its other folders."""
    found, directories = files.scan(folder)
    plain = [name for name in found if is_item(name)]
    if is_part and directories:
        inside = files.scan(files.join(folder, directories[0]))[0]
        if any(is_part(name) for name in inside):
            return sorted(plain + directories), []
    return plain, directories
