"""``modalities:DIR[@NAME,NAME]``: aligned pictures, DIR/<split>/<modality>/<class>/STEM.EXT."""

from typing import Any

import numpy as np

from maskjax.data import files
from maskjax.data.sources import tree
from maskjax.data.sources.formats import is_image
from maskjax.data.sources.listed import ListedSource
from maskjax.errors import UserError

KIND = "modalities"


def build(argument: str, split: str) -> "ModalitiesSource":
    """The folders of a split are the modalities, or those named after "@"; all hold the same stems.

    Folders of classes below a modality are optional. Files are images or npy arrays.
    """
    argument, _, chosen = argument.partition("@")
    root = files.absolute(argument) if argument else ""
    source = f"modalities:{argument}"
    folder = tree.split_folder(source, root, split)
    found = files.scan(folder)[1]
    names = [name.strip() for name in chosen.split(",")] if chosen else found
    if unknown := [name for name in names if name not in found]:
        raise UserError(f"{source}: {folder} has no folder {unknown[0]}; it holds {found}")
    if not names:
        raise UserError(f"{source}: {folder} must hold a folder for each modality")
    stems = tree.common_stems([files.join(folder, name) for name in names], is_raster)
    items = tree.labelled(list(stems), tree.sibling_folders(root, split, names[0]))
    prefix = folder.removeprefix(root).lstrip("/")
    paths = {
        name: [f"{prefix}/{name}/{paths[n]}".lstrip("/") for paths in stems.values()]
        for n, name in enumerate(names)
    }
    ids = [f"{prefix}/{stem}".lstrip("/") for stem in stems]
    return ModalitiesSource(root, ids, paths, items.labels, items.class_names)


def is_raster(name: str) -> bool:
    """Whether a file name ends like that of an image or a numpy array."""
    return is_image(name) or name.lower().endswith(".npy")


class ModalitiesSource(ListedSource):
    """Encoded pictures of each modality; the id is the path without the modality and extension.

    Args:
        root: folder that the paths are relative to.
        names: the ids.
        paths: {modality: path of each example}.
        labels, class_names: as in ``ListedSource``.
    """

    kind = KIND

    def __init__(
        self,
        root: str,
        names: list[str],
        paths: dict[str, list[str]],
        labels: np.ndarray | None = None,
        class_names: tuple[str, ...] | None = None,
    ):
        super().__init__(root, names, labels, class_names)
        self.paths = paths

    def content(self, index: int) -> dict[str, Any]:
        """{"modalities": {name: bytes}}."""
        return {
            "modalities": {
                name: files.read(files.join(self.root, paths[index]))
                for name, paths in self.paths.items()
            }
        }
