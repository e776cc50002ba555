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
from maskjax.data.recent import Recent
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
            found = self._at(times[wanted].tolist())
            found = {frame: found.get(int(times[frame])) for frame in wanted}
        for frame in wanted:
            if found.get(frame) is None:
                raise UserError(f"video {self.key}: frame {frame} is damaged or missing")
        return [found[frame] for frame in wanted]

    @cached_property
    def _packets(self) -> "_Packets":
        if files.is_remote(self.key):
            return self._list_packets()
        return _tables.get(files.entry(self.key), self._list_packets)

    @cached_property
    def _content(self) -> str | bytes:
        # A remote file is fetched once, not block by block for each search in it.
        return files.read(self.key) if files.is_remote(self.key) else self.key

    def _list_packets(self) -> "_Packets":
        shown: list[int | None] = []
        starts: list[tuple[int, int]] = []
        with self._opened() as (container, stream):
            for packet in container.demux(stream):
                if not packet.size:
                    continue
                if not packet.is_discard:
                    shown.append(packet.pts)
                if packet.is_keyframe and packet.pts is not None:
                    # Containers look for the time of decoding, not later than that of showing.
                    seek = packet.pts if packet.dts is None else min(packet.dts, packet.pts)
                    starts.append((packet.pts, seek))
        if not shown:
            raise UserError(f"video {self.key} has no frames")
        if None in shown or len(set(shown)) < len(shown):
            return _Packets(None, None)  # Old containers do not say when a frame is shown.
        return _Packets(np.sort(shown), np.array(starts, np.int64).reshape(-1, 2))

    def _at(self, times: list[int]) -> dict[int, np.ndarray]:
        """{time: pixels} of the frames that are shown at some times (ascending)."""
        starts = self._packets.starts
        before = starts[starts[:, 0] <= times[0], 1]
        found = self._decode(times, int(before[-1])) if len(before) else {}
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
        content = self._content
        try:
            with av.open(
                io.BytesIO(content) if isinstance(content, bytes) else content
            ) as container:
                # Not simply the first: music may come with a picture.
                stream = container.streams.best("video")
                if stream is None:
                    raise UserError(f"{self.key} holds no video")
                # Workers share the cores already.
                stream.codec_context.thread_count = 1
                yield container, stream
        except (av.FFmpegError, OSError) as error:
            raise UserError(f"cannot decode video {self.key}: {error}") from error


class _Packets(NamedTuple):
    """times: int64[N], at which the frames are shown, ascending; starts: int64[K, 2], of frames
    that decoding can start at, the time shown and the time to seek. None if the file does not tell.
    """

    times: np.ndarray | None
    starts: np.ndarray | None


def _size(packets: _Packets) -> int:
    return 0 if packets.times is None else packets.times.nbytes + packets.starts.nbytes


# A file is listed again only when it changed, or was not used for long.
_tables = Recent(32 * 2**20, _size)


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
