"""An image set made smaller once, so that every epoch reads and decodes less.

The images whose short side is longer than wanted are reduced (antialiased, upright) and written as
JPEG; all others go over byte for byte. A crop of 224 pixels from pictures of 256 to 320 pixels
costs a third of one from the originals. Shards are whole or absent, and a function of the source
and the settings alone, so that a run that was stopped goes on where it was.
"""

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from maskjax.data import files
from maskjax.data.decode import DEFAULT, Picture, open_picture, reduction
from maskjax.data.resize import check_resampler, resize
from maskjax.data.shard_files import FORMATS, Item
from maskjax.data.source import Source
from maskjax.data.sources.shards import CLASSES_FILE
from maskjax.errors import UserError

# How the files begin that are copied as they are; anything else is written anew as JPEG.
_KEPT = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png", b"RIFF": "webp"}
# A JPEG is decoded at 1/2, 1/4 or 1/8 while this many times the wanted size is left.
_REDUCING_GAP = 2


@dataclass(frozen=True)
class Recipe:
    """What is written.

    Attributes:
        name: what the shards are called, such as "train": NAME-00000.tar.
        short_side: pixels; smaller images stay as they are.
        quality: of JPEG, 1 .. 100.
        format: a key of ``shard_files.FORMATS``.
        per_shard: images in a shard.
        resample: which library resizes; see ``data.resize``.
        skip_broken: leave out and list what cannot be decoded, instead of stopping.
        made_from: says which data this is, to tell when it is other data than before.

    Raises:
        UserError: a value is out of range.
    """

    name: str
    short_side: int = 288
    quality: int = 90
    format: str = "wds"
    per_shard: int = 2000
    resample: str = "pillow"
    skip_broken: bool = False
    made_from: str = ""

    def __post_init__(self):
        if self.format not in FORMATS:
            raise UserError(f"unknown format {self.format!r}; one of: {', '.join(FORMATS)}")
        if self.short_side < 1 or self.per_shard < 1:
            raise UserError("the short side and the images per shard must be at least 1")
        if not 1 <= self.quality <= 100:
            raise UserError(f"the JPEG quality must be in 1 .. 100, found {self.quality}")
        if not self.name or "/" in self.name:
            raise UserError(f"{self.name!r} cannot be the name of files")
        check_resampler(self.resample, "bicubic")

    def shard(self, number: int) -> str:
        """The file name of a shard."""
        return f"{self.name}-{number:05d}.{FORMATS[self.format][1]}"


@dataclass
class Counts:
    """What was done, for one shard or all.

    Attributes:
        images: written.
        copied: of these, byte for byte.
        bytes_before, bytes_after: of the images; of arrays, their pixels.
        skipped: "ID: reason" of the images left out.
    """

    images: int = 0
    copied: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    skipped: list[str] = field(default_factory=list)

    def add(self, other: "Counts") -> None:
        """Adds up."""
        for name in ("images", "copied", "bytes_before", "bytes_after", "skipped"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


def prepare(
    source: Source, out: str, recipe: Recipe, workers: int = 0
) -> Iterator[tuple[Counts, bool]]:
    """Writes the shards that are not there yet.

    Yields the counts of each, and whether it was written now; those that were there come first.

    Beside the shards it keeps NAME.prepared.jsonl: the settings, and the counts of every shard.

    Args:
        source: see ``data.source``.
        out: a folder, made if it is not there; a URL that fsspec opens will do.
        recipe: what is written.
        workers: processes; 0 works in this one.

    Raises:
        UserError: the folder holds shards of that name made with other settings; an image is
            broken; something cannot be written.
    """
    if len(source) == 0:
        raise UserError("there are no images")
    out = files.absolute(out)
    journal = _Journal(out, recipe, len(source))
    _write_class_names(out, recipe, source.class_names)
    total = math.ceil(len(source) / recipe.per_shard)
    yield from ((counts, False) for counts in journal.done.values())
    _remove_unfinished(out, recipe)
    missing = [number for number in range(total) if number not in journal.done]
    for number, counts in _made(source, out, recipe, missing, workers):
        journal.add(number, counts)
        yield counts, True


def shrink(data: bytes | np.ndarray, name: str, recipe: Recipe) -> tuple[bytes, str, bool]:
    """One image -> (the bytes of its file, the extension, whether they are the bytes it had).

    Args:
        data: the bytes of an image file, or uint8[H, W, C] with 1 or 3 channels.
        name: the id, for messages.
        recipe: short_side, quality and resample are used.

    Raises:
        UserError: the image is broken, or has another number of channels.
    """
    picture = open_picture(data, None, name, DEFAULT)
    short = min(picture.height, picture.width)
    if short > recipe.short_side:
        return _encode(_reduced(picture, recipe), name, recipe.quality), "jpg", False
    kept = isinstance(data, bytes) and next((e for m, e in _KEPT.items() if data.startswith(m)), "")
    pixels = picture.pixels()  # So that a broken image is found now.
    return (data, kept, True) if kept else (_encode(pixels, name, recipe.quality), "jpg", False)


def _reduced(picture: Picture, recipe: Recipe) -> np.ndarray:
    size = (picture.height, picture.width)
    scale = recipe.short_side / min(size)
    pixels = picture.pixels(reduction(1 / (scale * _REDUCING_GAP)))
    wanted = tuple(max(1, round(side * scale)) for side in size)
    return np.ascontiguousarray(resize(pixels, wanted, "bicubic", recipe.resample))


def _encode(pixels: np.ndarray, name: str, quality: int) -> bytes:
    import simplejpeg

    space = {1: "GRAY", 3: "RGB"}.get(pixels.shape[2])
    if space is None:
        raise UserError(f"image {name!r} has {pixels.shape[2]} channels: JPEG holds 1 or 3")
    pixels = np.ascontiguousarray(pixels)
    return simplejpeg.encode_jpeg(pixels, quality, space, colorsubsampling="420")


class _Journal:
    """NAME.prepared.jsonl: the settings in the first line, then one line for each whole shard."""

    def __init__(self, out: str, recipe: Recipe, num_examples: int):
        self._path = files.join(out, f"{recipe.name}.prepared.jsonl")
        self._lines = [json.dumps({**asdict(recipe), "examples": num_examples})]
        self.done: dict[int, Counts] = {}
        if files.is_file(self._path):
            self._read(out, recipe)
        elif files.is_file(files.join(out, recipe.shard(0))):
            raise UserError(f"{out} has {recipe.shard(0)}, which was not made by this command")

    def _read(self, out: str, recipe: Recipe):
        settings, *shards = files.read(self._path).decode().splitlines()
        old, new = json.loads(settings), json.loads(self._lines[0])
        # A run that stopped at a broken image may go on without such images.
        compared = new.keys() - {"skip_broken"}
        if changed := sorted(key for key in compared if old.get(key) != new[key]):
            told = ", ".join(f"{key} {old.get(key)!r} (now {new[key]!r})" for key in changed)
            raise UserError(
                f"{out} was begun with other settings: {told}; take them, or another folder"
            )
        for line in shards:
            counts = json.loads(line)
            number = counts.pop("shard")
            if files.is_file(files.join(out, recipe.shard(number))):
                self.done[number] = Counts(**counts)
                self._lines.append(line)

    def add(self, number: int, counts: Counts) -> None:
        """Notes a shard."""
        self._lines.append(json.dumps({"shard": number, **asdict(counts)}))
        with _replaced(self._path) as path:
            Path(path).write_text("\n".join(self._lines) + "\n")


@contextlib.contextmanager
def _replaced(path: str) -> Iterator[str]:
    """A path to write to; the file takes its place when it is whole, and only then."""
    with files.named_errors("write", path):
        if files.is_remote(path):
            with tempfile.TemporaryDirectory() as folder:
                local = os.path.join(folder, path.rpartition("/")[2])
                yield local
                files.filesystem(path).put_file(local, path)
            return
        folder, _, name = path.rpartition("/")
        os.makedirs(folder, exist_ok=True)
        # A dot in front: sources do not look at it while it grows.
        unfinished = f"{folder}/.{name}.{os.getpid()}"
        try:
            yield unfinished
            os.replace(unfinished, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(unfinished)


def _remove_unfinished(out: str, recipe: Recipe) -> None:
    """What a run that was killed left behind."""
    if not files.is_remote(out):
        for path in Path(out).glob(f".{recipe.name}-*.{FORMATS[recipe.format][1]}.*"):
            path.unlink(missing_ok=True)


def _write_class_names(out: str, recipe: Recipe, names: tuple[str, ...] | None) -> None:
    if not names or not FORMATS[recipe.format][2]:
        return
    path, text = files.join(out, CLASSES_FILE), "".join(f"{name}\n" for name in names)
    if not files.is_file(path):
        with _replaced(path) as new:
            Path(new).write_text(text)
    elif files.read(path).decode() != text:
        raise UserError(f"{path} lists other classes than this data has; take another folder")


def _made(
    source: Source, out: str, recipe: Recipe, numbers: list[int], workers: int
) -> Iterator[tuple[int, Counts]]:
    if not workers:
        for number in numbers:
            yield number, _write_shard(source, out, recipe, number)
        return
    # Fresh interpreters: forking one that has threads is not safe.
    options = {"mp_context": get_context("spawn"), "initializer": _remember}
    with ProcessPoolExecutor(workers, initargs=(source, out, recipe), **options) as pool:
        futures = [(number, pool.submit(_write_remembered, number)) for number in numbers]
        try:
            for number, future in futures:
                yield number, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


_task: tuple[Any, ...] = ()


def _remember(*task: Any) -> None:
    global _task
    _task = task


def _write_remembered(number: int) -> Counts:
    return _write_shard(*_task, number)


def _write_shard(source: Source, out: str, recipe: Recipe, number: int) -> Counts:
    counts = Counts()
    first = number * recipe.per_shard
    writer, _, _ = FORMATS[recipe.format]
    with _replaced(files.join(out, recipe.shard(number))) as path:
        shard = writer(path, source.class_names)
        try:
            for index in range(first, min(first + recipe.per_shard, len(source))):
                _add(shard, source, index, recipe, counts)
        finally:
            shard.close()
    return counts


def _add(shard: Any, source: Source, index: int, recipe: Recipe, counts: Counts) -> None:
    name = f"example {index}"
    try:
        example = source[index]
        name, image = example["id"], example["image"]
        data, extension, kept = shrink(image, name, recipe)
    except UserError as error:
        if not recipe.skip_broken:
            raise UserError(f"{error} (--skip-broken leaves such images out)") from error
        counts.skipped.append(f"{name}: {error}")
        return
    shard.add(Item(index, name, data, extension, example.get("label")))
    counts.images += 1
    counts.copied += kept
    counts.bytes_before += len(image) if isinstance(image, bytes) else image.nbytes
    counts.bytes_after += len(data)
