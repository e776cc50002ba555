"""``furniture[:DIR]``: models of the furniture libraries of Sweet Home 3D, of nine kinds.

Debian's package sweethome3d-furniture (CC0 and CC BY models; license files in it name the authors)
puts them where this looks by default: five .sh3f files, which are zips of OBJ meshes and a
catalogue. A model's kind is the last word of its name that tells one; others are left out.
"""

import io
import re
import zipfile
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from maskjax.data import cache, files
from maskjax.data.point_file import SURFACE_POINTS, mesh_points
from maskjax.data.sources.arrays import held_out
from maskjax.data.sources.checks import require_package, require_split
from maskjax.data.sources.listed import ListedSource
from maskjax.errors import UserError

KIND = "points"
DEBIAN = "/usr/share/sweethome3d/furniture"
CATALOGUE = "PluginFurnitureCatalog.properties"
# Kind -> the words that tell it.
WORDS = {
    "bed": ("bed", "beds", "crib"),
    "cabinet": ("cabinet", "wardrobe", "bookcase", "shelves", "shelf", "sideboard", "dresser"),
    "chair": ("chair", "chairs", "stool", "stools"),
    "door": ("door", "doors"),
    "lamp": ("lamp", "lamps", "light", "chandelier"),
    "person": ("man", "woman", "male", "female"),
    "sofa": ("sofa", "couch", "armchair"),
    "table": ("table", "tables", "desk"),
    "window": ("window", "windows"),
}
_KIND_OF = {word: label for label, words in enumerate(WORDS.values()) for word in words}
_LINE = re.compile(r"^(name|model)#(\d+)=(.*?)\s*$", re.MULTILINE)


class Model(NamedTuple):
    """A model of a library: its file in there, and its kind."""

    file: str
    label: int


def build(argument: str, split: str) -> "FurnitureSource":
    """Splits: train, and test: a fifth, the same seeded share of each kind."""
    require_split("furniture", split, ("train", "test"))
    require_package("trimesh", "furniture", "'maskjax[points]'")
    folder = files.absolute(argument or DEBIAN)
    names = files.scan(folder)[0] if files.is_dir(folder) else []
    paths = [files.join(folder, name) for name in names if name.endswith(".sh3f")]
    models = {path: catalogue(path) for path in paths}
    if not any(models.values()):
        raise UserError(
            f"furniture: there are no .sh3f files with furniture in {folder}; install Debian's"
            " package sweethome3d-furniture, or say furniture:DIR"
        )
    return FurnitureSource(folder, models, split)


class FurnitureSource(ListedSource):
    """8,192 points of the surface of each model, z upwards; the label is its kind.

    Meshes are read once; from then on their points come from the cache folder.

    Args:
        folder: of the libraries.
        models: of each library, by its path.
        split: "train" or "test".
    """

    kind = KIND

    def __init__(self, folder: str, models: dict[str, list[Model]], split: str):
        self.models = models
        every = [(path, model) for path, found in models.items() for model in found]
        labels = np.array([model.label for _, model in every], np.int32)
        self.chosen = held_out(labels, len(labels) // 5, "furniture", split)
        names = [f"{_stem(path)}/{model.file}" for path, model in every]
        chosen = [names[number] for number in self.chosen]
        super().__init__(folder, chosen, labels[self.chosen], tuple(WORDS))

    @cached_property
    def _clouds(self) -> np.ndarray:
        """float32[all models, P, 3]."""
        entries = files.entries(list(self.models))

        def read(entry: files.Entry) -> cache.Index:
            return {"points": read_clouds(entry.path, self.models[entry.path])}

        indices = cache.indexed("furniture-1", self.root, entries, read)
        return np.concatenate([index["points"] for index in indices])

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_clouds"}

    def content(self, index: int) -> dict[str, Any]:
        """{"points": float32[P, 3]}."""
        return {"points": self._clouds[self.chosen[index]]}


def catalogue(path: str) -> list[Model]:
    """The models of a library whose names tell their kind.

    Raises:
        UserError: the file is no library.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(files.read(path))) as library:
            text = library.read(CATALOGUE).decode("latin-1")
    except (zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"{path} is no furniture library of Sweet Home 3D: {error}") from error
    names, meshes = {}, {}
    for key, number, value in _LINE.findall(text):
        (names if key == "name" else meshes)[number] = value
    found = []
    for number, mesh in meshes.items():
        words = re.findall("[a-z]+", names.get(number, "").lower())
        labels = [_KIND_OF[word] for word in words if word in _KIND_OF]
        if labels:
            found.append(Model(mesh.lstrip("/"), labels[-1]))
    return found


def read_clouds(path: str, models: list[Model]) -> np.ndarray:
    """float32[models, P, 3]: points of the surface of each, from y upwards to z upwards."""
    clouds = []
    with zipfile.ZipFile(io.BytesIO(files.read(path))) as library:
        for model in models:
            name = f"{_stem(path)}/{model.file}"
            points = mesh_points(library.read(model.file), f"{path}/{model.file}", name)
            clouds.append(np.stack([points[:, 0], -points[:, 2], points[:, 1]], -1))
    return np.asarray(clouds, np.float32).reshape(len(models), SURFACE_POINTS, 3)


def _stem(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".sh3f")
