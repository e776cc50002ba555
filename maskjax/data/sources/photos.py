"""``photos``: 18 photographs and micrographs that ship inside the package, as JPEG up to 512 px.

LICENSES-data.md names the origin and licence of each; ``maskjax.data.embed_photos`` made the files.
"""

from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np

from maskjax.data.decode import decode
from maskjax.data.sources.checks import require_no_argument, require_split

NAMES = (
    "astronaut",
    "brick",
    "camera",
    "cell",
    "chelsea",
    "china",
    "coffee",
    "coins",
    "flower",
    "grass",
    "gravel",
    "hubble",
    "ihc",
    "moon",
    "motorcycle",
    "page",
    "retina",
    "rocket",
)


def build(argument: str, split: str) -> "PhotosSource":
    """Splits: train, which is all of them (all is another name for it). There is no test split."""
    require_no_argument("photos", argument)
    hint = " (every picture is in it; photo_crops holds parts of the pictures back for testing)"
    require_split("photos", split, ("train", "all"), hint)
    return PhotosSource()


class PhotosSource:
    """The pictures as encoded bytes, sorted by name; the label says which picture it is."""

    class_names = NAMES

    def __len__(self) -> int:
        return len(NAMES)

    def __getitem__(self, index: int) -> dict[str, Any]:
        label = range(len(NAMES))[index]
        return {"image": photo_bytes(NAMES[label]), "label": label, "id": NAMES[label]}


def photo_bytes(name: str) -> bytes:
    """The JPEG file of an embedded picture; name: one of ``NAMES``."""
    return (files("maskjax.data") / "photos" / f"{name}.jpg").read_bytes()


@lru_cache(maxsize=len(NAMES))
def photo(name: str) -> np.ndarray:
    """An embedded picture as read-only uint8[H, W, 3]; grey ones have three equal channels."""
    pixels = decode(photo_bytes(name), 3, name)
    pixels.flags.writeable = False
    return pixels
