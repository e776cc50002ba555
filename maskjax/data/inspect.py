"""What one example of a source is like: sizes, kind of file, a hash of its content, its faults."""

import dataclasses
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

from maskjax.data.decode import Decoding, decode
from maskjax.data.examples import ExampleError, read_example, transformed
from maskjax.data.source import Source
from maskjax.errors import UserError

# Of a file's own pixels; more than that is said by ``Facts.remarks``.
_USUAL_MODES = ("RGB", "L")
_EXIF_ORIENTATION = 0x0112


@dataclasses.dataclass(frozen=True)
class Facts:
    """About one example.

    Attributes:
        number: in the source.
        id: of the example; see ``data.examples.name_of`` for one that cannot be read.
        label: None without one.
        height, width: upright, of its first picture or frame; 0 if it has none.
        format: "JPEG", "PNG", ... or "array".
        mode: Pillow's name for the file's pixels ("RGB", "CMYK", "I;16", ...), or the channels of
            an array, such as "3 x uint8".
        bytes: size as stored.
        digest: hash of the content, 64 bits; 0 if it cannot be told.
        remarks: what is unusual, though it can be used: "turned by EXIF", "CMYK", ...
        problem: why it cannot be used; "" if it can.
    """

    number: int
    id: str
    label: int | None = None
    height: int = 0
    width: int = 0
    format: str = ""
    mode: str = ""
    bytes: int = 0
    digest: int = 0
    remarks: tuple[str, ...] = ()
    problem: str = ""


class Inspector:
    """(number of an example) -> ``Facts``; reads and decodes it whole. Picklable.

    Args:
        source: see ``data.source``.
        decoding: which decoder, and what is too large.
        transform: what else has to work, or None.
    """

    def __init__(
        self, source: Source, decoding: Decoding, transform: Callable[[dict], Any] | None = None
    ):
        self.source, self.decoding, self.transform = source, decoding, transform

    def __call__(self, number: int) -> Facts:
        try:
            example = read_example(self.source, number)
        except ExampleError as error:
            return Facts(number, error.name, problem=str(error))
        facts = self._facts(number, example)
        if facts.problem or self.transform is None:
            return facts
        try:
            transformed(self.transform, example)
        except (ExampleError, RuntimeError) as error:
            return dataclasses.replace(facts, problem=str(error))
        return facts

    def _facts(self, number: int, example: dict[str, Any]) -> Facts:
        name, label = example["id"], example.get("label")
        facts = Facts(number, name, None if label is None else int(label))
        parts = [(key, part) for key, part in _parts(example) if key not in ("id", "label")]
        facts = dataclasses.replace(
            facts, bytes=sum(_size(part) for _, part in parts), digest=_digest(parts)
        )
        for _, part in parts:
            try:
                seen = self._look(part, name)
            except (UserError, OSError, ValueError) as error:
                return dataclasses.replace(facts, problem=str(error))
            if not facts.format:
                facts = dataclasses.replace(facts, **seen)
        return facts

    def _look(self, part: Any, name: str) -> dict[str, Any]:
        if isinstance(part, bytes):
            return self._file(part, name)
        if isinstance(part, np.ndarray):
            if part.ndim not in (2, 3) or part.dtype != np.uint8:
                return {"format": "array", "mode": f"{part.ndim} axes, {part.dtype}"}
            height, width, channels = (*part.shape, 1)[:3]
            mode = f"{channels} x {part.dtype}"
            return {"format": "array", "mode": mode, "height": height, "width": width}
        if hasattr(part, "read") and hasattr(part, "count"):  # a video
            height, width, channels = part.read([0, part.count() - 1])[0].shape
            return {
                "format": "video", "mode": f"{channels} x uint8", "height": height, "width": width,
            }  # fmt: skip
        return {}

    def _file(self, data: bytes, name: str) -> dict[str, Any]:
        if data.startswith(b"\x93NUMPY"):
            return self._look(np.load(io.BytesIO(data), allow_pickle=False), name)
        pixels = decode(data, None, name, self.decoding)
        with Image.open(io.BytesIO(data)) as picture:
            remarks = [] if picture.mode in _USUAL_MODES else [picture.mode]
            if picture.getexif().get(_EXIF_ORIENTATION, 1) != 1:
                remarks.append("turned by EXIF")
            if getattr(picture, "n_frames", 1) > 1:
                remarks.append("several frames, the first is used")
            found = {"format": picture.format, "mode": picture.mode, "remarks": tuple(remarks)}
        return {**found, "height": pixels.shape[0], "width": pixels.shape[1]}


def _parts(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _parts(inner, name)
    else:
        yield key, value


def _size(part: Any) -> int:
    if isinstance(part, bytes):
        return len(part)
    return part.nbytes if isinstance(part, np.ndarray) else 0


def _digest(parts: list[tuple[str, Any]]) -> int:
    """Of what is stored, so that two files with the same pixels but other bytes differ."""
    hashed = hashlib.blake2b(digest_size=8)
    for key, part in parts:
        if isinstance(part, np.ndarray):
            hashed.update(f"{key} {part.dtype} {part.shape}".encode())
            hashed.update(np.ascontiguousarray(part))
        elif isinstance(part, bytes):
            hashed.update(key.encode() + part)
        else:
            return 0
    return int.from_bytes(hashed.digest(), "big")
