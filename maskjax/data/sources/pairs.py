"""``pairs:DIR`` or ``pairs:FILE.csv``: two views of one scene."""

from typing import Any

import numpy as np

from maskjax.data import files
from maskjax.data.sources import tree
from maskjax.data.sources.formats import is_image
from maskjax.data.sources.listed import ListedSource
from maskjax.data.sources.table import read_table
from maskjax.errors import UserError

KIND = "pair"
# Folder names of rectified stereo pairs, the left camera's first.
STEREO = (("left", "right"), ("image_2", "image_3"), ("image_02", "image_03"))


def build(argument: str, split: str) -> "PairSource":
    """DIR/<split>/<view>/.../NAME with two view folders; or a table: image, other, label, split.

    Both view folders hold the same paths, but for the extension; the one that comes first by name
    is "image". Folders called left and right (or as KITTI has them) make rectified stereo pairs.
    The paths in a table are relative to the folder it lies in; see ``sources.table``.
    """
    root = files.absolute(argument) if argument else ""
    if root.lower().endswith(".csv"):
        table = read_table(root, ("image", "other"), split)
        pairs = list(zip(table.columns["image"], table.columns["other"], strict=True))
        names = [f"{image} {other}" for image, other in pairs]
        return PairSource(root.rpartition("/")[0], names, pairs, table.labels, table.class_names)
    folder = tree.split_folder(f"pairs:{argument}", root, split)
    views = files.scan(folder)[1]
    if len(views) != 2:
        raise UserError(
            f"pairs:{argument}: {folder} must hold two folders, one for each view; it holds"
            f" {files.summary(folder)}"
        )
    stems = tree.common_stems([files.join(folder, view) for view in views], is_image)
    prefix = folder.removeprefix(root).lstrip("/")
    pairs = [
        tuple(f"{prefix}/{view}/{name}".lstrip("/") for view, name in zip(views, both, strict=True))
        for both in stems.values()
    ]
    names = [image for image, _ in pairs]
    return PairSource(root, names, pairs, stereo=tuple(views) in STEREO)


class PairSource(ListedSource):
    """Pairs of encoded images by path.

    Args:
        root: folder that the paths are relative to.
        names: the ids.
        pairs: (image, other).
        labels, class_names: as in ``ListedSource``.
        stereo: they are rectified, the left camera first.
    """

    kind = KIND

    def __init__(
        self,
        root: str,
        names: list[str],
        pairs: list[tuple[str, str]],
        labels: np.ndarray | None = None,
        class_names: tuple[str, ...] | None = None,
        stereo: bool = False,
    ):
        super().__init__(root, names, labels, class_names)
        self.pairs, self.stereo = pairs, stereo

    def content(self, index: int) -> dict[str, Any]:
        """{"image", "other": bytes, "stereo": True if they are}."""
        image, other = (files.read(files.join(self.root, name)) for name in self.pairs[index])
        return {"image": image, "other": other} | ({"stereo": True} if self.stereo else {})
