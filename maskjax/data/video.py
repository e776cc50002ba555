"""Transforms of videos: {"video": uint8[T, H, W, C]}, one clip with one crop and one flip."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from maskjax.data.crops import PHOTO, MultiScaleView, RandomView, View, centre_view
from maskjax.data.fields import Shapes
from maskjax.data.photo import Photo
from maskjax.errors import UserError

SAMPLINGS = ("dense", "segments")


@dataclass(frozen=True)
class Clip:
    """Which frames of a video make a clip.

    Args:
        num_frames: T.
        stride: frames from one to the next, with sampling "dense".
        sampling: "dense" is an interval of the video; "segments" takes one frame of each of T equal
            parts of the video (Wang et al., "Temporal segment networks", 2016), as is usual for
            Something-Something.

    Raises:
        UserError: a value is out of range.
    """

    num_frames: int
    stride: int = 4
    sampling: str = "dense"

    def __post_init__(self):
        if self.stride < 1:
            raise UserError(f"config.data.video.stride = {self.stride}: must be positive")
        if self.sampling not in SAMPLINGS:
            known = " or ".join(SAMPLINGS)
            raise UserError(f"config.data.video.sampling = {self.sampling!r}: must be {known}")

    def frames(self, available: int, rng: np.random.Generator | None = None) -> np.ndarray:
        """int[T], ascending: frame numbers in a video of ``available`` frames.

        A video that is too short for the stride gives frames evenly from start to end, several of
        them twice if it has fewer than T.

        Args:
            available: frames of the video, at least 1.
            rng: draws the start, or the frame of each segment; None takes the middle.
        """
        if self.sampling == "segments":
            return self._segments(available, rng)
        room = available - ((self.num_frames - 1) * self.stride + 1)
        if room < 0:
            return np.linspace(0, available - 1, self.num_frames).round().astype(int)
        start = room // 2 if rng is None else int(rng.integers(room + 1))
        return start + self.stride * np.arange(self.num_frames)

    def _segments(self, available: int, rng: np.random.Generator | None) -> np.ndarray:
        edges = np.arange(self.num_frames + 1) * available // self.num_frames
        low, length = edges[:-1], np.maximum(np.diff(edges), 1)
        within = (length - 1) // 2 if rng is None else rng.integers(length)
        return np.minimum(low + within, available - 1)


@dataclass(frozen=True)
class VideoTrain:
    """Example -> {"video"}: a random clip, one crop and flip for all of its frames.

    Several views of one visit (config.data.views) are crops of the same clip, which is then decoded
    once (repeated augmentation, as VideoMAE V2 has it).

    Args:
        clip: which frames.
        view: crop and flip.
        photo: how the frames are read and changed; colours are drawn once for all of them.

    Raises:
        UserError: when called, the video cannot be decoded.
    """

    clip: Clip
    view: RandomView | MultiScaleView
    photo: Photo = PHOTO

    kind = "video"

    def fields(self) -> Shapes:
        """{name: (shape, dtype)} of what a call returns."""
        return video_fields(self.clip, self.view.size, self.photo.channels)

    def __call__(self, example: dict[str, Any], rng: np.random.Generator) -> dict[str, np.ndarray]:
        return self.views(example, [rng])[0]

    def views(
        self, example: dict[str, Any], rngs: Sequence[np.random.Generator]
    ) -> list[dict[str, np.ndarray]]:
        """Several views of one clip, which is decoded once; view v depends on rngs[v].

        The clip is drawn from "shared_rng" of the example, where there is one.
        """
        video = example["video"]
        frames = self.clip.frames(video.count(), example.get("shared_rng", rngs[0]))
        pictures = [self.photo.decode(frame, example["id"]) for frame in video.read(frames)]
        return [{"video": self._view(example, pictures, rng)} for rng in rngs]

    def _view(
        self, example: dict[str, Any], pictures: list[np.ndarray], rng: np.random.Generator
    ) -> np.ndarray:
        view, seed = self.view(rng, *pictures[0].shape[:2]), rng.integers(2**63)
        seen = _see(example, pictures, view, self.view.size, self.photo)
        # Each frame draws the same numbers.
        return np.stack([self.photo.colour(one, np.random.default_rng(seed)) for one in seen])


@dataclass(frozen=True)
class VideoEval:
    """Example -> {"video"}: the clip in the middle; resized, then the centre.

    Args:
        clip: which frames.
        size: (height, width) of the result.
        photo: how the frames are read.
        resize: as in ``transforms.EvalTransform``.
    """

    clip: Clip
    size: tuple[int, int]
    photo: Photo = PHOTO
    resize: int = 0

    kind = "video"

    def fields(self) -> Shapes:
        """{name: (shape, dtype)} of what a call returns."""
        return video_fields(self.clip, self.size, self.photo.channels)

    def __call__(self, example: dict[str, Any]) -> dict[str, np.ndarray]:
        frames = example["video"].read(self.clip.frames(example["video"].count()))
        pictures = [self.photo.decode(frame, example["id"]) for frame in frames]
        view = centre_view(*pictures[0].shape[:2], self.size, self.resize)
        return {"video": np.stack(_see(example, pictures, view, self.size, self.photo))}


def video_fields(clip: Clip, size: tuple[int, int], channels: int) -> Shapes:
    """The fields of a clip of frames of ``size``."""
    return {"video": ((clip.num_frames, *size, channels), np.dtype(np.uint8))}


def _see(
    example: dict[str, Any],
    pictures: list[np.ndarray],
    view: View,
    size: tuple[int, int],
    photo: Photo,
) -> list[np.ndarray]:
    first, seen = pictures[0].shape, []
    for picture in pictures:
        if picture.shape != first:
            raise UserError(
                f"video {example['id']!r} has frames of {first[:2]} and of {picture.shape[:2]}"
                " (height, width)"
            )
        seen.append(view.image(picture, size, photo))
    return seen
