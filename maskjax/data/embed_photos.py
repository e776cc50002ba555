"""Makes the embedded photographs from the scikit-image and scikit-learn packages.

    python -m maskjax.data.embed_photos --out maskjax/data/photos

Needed only to make the files again: at run time the package reads the JPEGs with Pillow alone.
LICENSES-data.md has one line for every picture written here.
"""

import argparse
from pathlib import Path

from PIL import Image

from maskjax.data.sources.checks import package_file
from maskjax.data.sources.photos import NAMES

LONG_SIDE = 512
QUALITY = 90

# Where a picture's file has another name than the picture.
_FILES = {
    "hubble": "hubble_deep_field.jpg",
    "motorcycle": "motorcycle_left.png",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
}
_SKLEARN = ("china", "flower")


def original(name: str) -> Path:
    """The file of a picture in the installed package it comes from; UserError if there is none."""
    if name in _SKLEARN:
        return package_file("sklearn", "scikit-learn", f"datasets/images/{name}.jpg")
    return package_file("skimage", "scikit-image", f"data/{_FILES.get(name, name + '.png')}")


def reduced(name: str) -> Image.Image:
    """The picture, grey or RGB, with its long side at most 512 px (Lanczos; never enlarged)."""
    with Image.open(original(name)) as picture:
        picture = picture.convert("L" if picture.mode in ("1", "L") else "RGB")
    picture.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
    return picture


def main() -> None:
    """Writes NAME.jpg for every embedded picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the JPEG files")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        path = out / f"{name}.jpg"
        reduced(name).save(path, quality=QUALITY, optimize=True)
        print(f"{path}  {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
