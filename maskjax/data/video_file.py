"""Videos whose frames are decoded when they are asked for: encoded files, folders of frames."""

import io
import re
from collections.abc import Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from maskjax.data import files
from maskjax.data.decode import decode
from maskjax.data.sources.formats import is_image
from maskjax.errors import UserError


class EncodedVideo:
    """A video file, decoded by PyAV (FFmpeg).

    Frame n is the n-th picture in the order of presentation, wherever decoding starts: the packets
    of the file are listed first, undecoded, with the time each is shown at.

    Args:
        path: of the file; local, or a URL.

    Attributes:
        key: tells one video from another.
    """

    def __init__(self, path: str):
        self.key = path

    def count(self) -> int:
        """How many frames there are.

        Raises:
            UserError: it is no video, or PyAV is not installed.
        """
        times = self._packets.times
        return len(self._all_frames(())) if times is None else len(times)

    def read(self, frames: Sequence[int]) -> list[np.ndarray]:
        """uint8[H, W, 3], upright, of each frame number (ascending; some may be equal).

        Raises:
            UserError: the video is damaged there.
        """
        wanted, times = [int(frame) for frame in frames], self._packets.times
        if times is None:
            found = self._all_frames(wanted)
        else:
            found = self._at([times[frame] for frame in wanted])
            found = {frame: found.get(times[frame]) for frame in wanted}
        for frame in wanted:
            if found.get(frame) is None:
                raise UserError(f"video {self.key}: frame {frame} is damaged or missing")
        return [found[frame] for frame in wanted]

    @cached_property
    def _packets(self) -> "_Packets":
        with self._opened() as (container, stream):
            packets = [packet for packet in container.demux(stream) if packet.size]
        shown = [packet.pts for packet in packets if not packet.is_discard]
        if not packets:
            raise UserError(f"video {self.key} has no frames")
        if None in shown or len(set(shown)) < len(shown):
            return _Packets(None, [])  # Old containers do not say when a frame is shown.
        keys = [packet for packet in packets if packet.is_keyframe and packet.pts is not None]
        # Containers look for the time of decoding, which is not later than that of showing.
        starts = [(p.pts, p.pts if p.dts is None else min(p.dts, p.pts)) for p in keys]
        return _Packets(sorted(shown), starts)

    def _at(self, times: list[int]) -> dict[int, np.ndarray]:
        """{time: pixels} of the frames that are shown at some times (ascending)."""
        before = [seek for shown, seek in self._packets.starts if shown <= times[0]]
        found = self._decode(times, before[-1]) if before else {}
        # A container may have sought too far; from its start it cannot.
        return found if times[0] in found else self._decode(times, None)

    def _decode(self, times: list[int], seek: int | None) -> dict[int, np.ndarray]:
        wanted, found = set(times), {}
        with self._opened() as (container, stream):
            if seek is not None:
                container.seek(seek, stream=stream)
            for frame in container.decode(stream):
                if frame.pts is None or (not found and frame.pts > times[0]):
                    break
                if frame.pts in wanted and not frame.is_corrupt:
                    found[frame.pts] = _pixels(frame)
                if frame.pts >= times[-1]:
                    break
        return found

    def _all_frames(self, wanted: Sequence[int]) -> dict[int, np.ndarray | None]:
        """{number: pixels, or None if it is not wanted} of every frame, by counting."""
        with self._opened() as (container, stream):
            return {
                number: _pixels(frame) if number in wanted and not frame.is_corrupt else None
                for number, frame in enumerate(container.decode(stream))
            }

    @contextmanager
    def _opened(self):
        try:
            import av
        except ImportError as error:
            raise UserError("reading videos needs PyAV: pip install maskjax[video]") from error
        content = io.BytesIO(files.read(self.key)) if files.is_remote(self.key) else self.key
        try:
            with av.open(content) as container:
                if not container.streams.video:
                    raise UserError(f"{self.key} holds no video")
                stream = container.streams.video[0]
                # Workers share the cores already.
                stream.codec_context.thread_count = 1
                yield container, stream
        except (av.FFmpegError, OSError) as error:
            raise UserError(f"cannot decode video {self.key}: {error}") from error


class _Packets(NamedTuple):
    """times: at which the frames are shown, sorted, or None if the file does not tell; starts:
    (time shown, time to seek) of the frames that decoding can start at."""

    times: list[int] | None
    starts: list[tuple[int, int]]


class FrameFolder:
    """A video as a folder of image files, ordered by name, numbers by their value.

    Args:
        path: of the folder; local, or a URL.

    Attributes:
        key: tells one video from another.
    """

    def __init__(self, path: str):
        self.key = path

    @cached_property
    def _names(self) -> list[str]:
        names = [name for name in files.scan(self.key)[0] if is_image(name)]
        if not names:
            raise UserError(f"video {self.key} has no frames: the folder holds no image")
        return sorted(names, key=by_number)

    def count(self) -> int:
        """How many frames there are.

        Raises:
            UserError: none, or no such folder.
        """
        return len(self._names)

    def read(self, frames: Sequence[int]) -> list[np.ndarray]:
        """uint8[H, W, 3] of each frame number.

        Raises:
            UserError: an image cannot be decoded.
        """
        paths = {int(frame): files.join(self.key, self._names[int(frame)]) for frame in frames}
        found = {frame: decode(files.read(path), 3, path) for frame, path in paths.items()}
        return [found[int(frame)] for frame in frames]


def by_number(name: str) -> list[Any]:
    """A sorting key: runs of digits count as numbers, so that frame_10 comes after frame_9."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _pixels(frame) -> np.ndarray:
    pixels = frame.to_ndarray(format="rgb24")
    return np.rot90(pixels, frame.rotation // 90) if frame.rotation % 360 else pixels
