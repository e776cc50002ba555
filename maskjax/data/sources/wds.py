"""``wds:FILES``: tar shards as WebDataset writes them, with random access."""

from typing import Any

import numpy as np

from maskjax.data import cache, files
from maskjax.data.sources import shards
from maskjax.data.sources.formats import EXTENSIONS
from maskjax.data.sources.packed import PackedNames
from maskjax.data.sources.tar_index import NO_LABEL, index_tar
from maskjax.errors import UserError


def build(argument: str, split: str) -> "TarSource":
    """Samples of tar files: members with a common stem, parts by extension.

    FILES is a pattern (``/data/shard-{000000..001023}.tar``, ``gs://bucket/{split}-*.tar``) or a
    directory; ``shards.find`` says which files are a split. The image is the part with the first of
    ``formats.EXTENSIONS`` that a sample has, or with the one of FILES#image=EXTENSION; the label is
    the integer in the part .cls, or under "label" in the part .json. Class names are the lines of
    classes.txt beside the shards, if it is there.

    The headers of new or changed shards are read once; what was found is kept in the cache folder.
    """
    pattern, options = shards.parse("wds", argument, ("image",))
    found = shards.find("wds", pattern, split, (".tar", ".tar.gz", ".tgz"))
    where = f"{files.absolute(pattern)} {split}"
    indices = cache.indexed("tar-1", where, found, index_tar)
    wanted = (options["image"].lower(),) if "image" in options else EXTENSIONS
    return _assemble([file.path for file in found], indices, wanted)


class TarSource:
    """Samples of tar shards; the id is the name of the shard and that of the sample.

    Args:
        paths: the shards.
        shard, offset, size: int64[N], where the image of each sample is.
        keys: the names of the samples.
        labels: int64[N] or None.
        class_names: one name per label, or None.
    """

    def __init__(
        self,
        paths: list[str],
        shard: np.ndarray,
        offset: np.ndarray,
        size: np.ndarray,
        keys: PackedNames,
        labels: np.ndarray | None,
        class_names: tuple[str, ...] | None = None,
    ):
        self.paths, self.shard, self.offset, self.size = paths, shard, offset, size
        self.keys, self.labels, self.class_names = keys, labels, class_names
        self._reader = files.RangeReader()

    def __len__(self) -> int:
        return len(self.shard)

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = range(len(self))[index]
        path = self.paths[self.shard[index]]
        image = self._reader.read(path, int(self.offset[index]), int(self.size[index]))
        example = {"image": image, "id": self._id(index)}
        if self.labels is not None:
            example["label"] = int(self.labels[index])
        return example

    def ids(self) -> list[str]:
        """The id of every example."""
        return [self._id(number) for number in range(len(self))]

    def _id(self, index: int) -> str:
        name = self.paths[self.shard[index]].rpartition("/")[2].removesuffix(".tar")
        return f"{name}/{self.keys[index]}"


def _assemble(paths: list[str], indices: list[cache.Index], wanted: tuple[str, ...]) -> TarSource:
    chosen = [_choose(path, index, wanted) for path, index in zip(paths, indices, strict=True)]
    keys = PackedNames.joined([PackedNames(i["keys"], i["key_ends"]) for i in indices])
    if len(keys) == 0:
        raise UserError(f"{paths[0]} holds no files" + (", nor do the others" * (len(paths) > 1)))
    labels = np.concatenate([index["label"] for index in indices])
    shard = np.repeat(np.arange(len(paths)), [len(index["label"]) for index in indices])
    lacking = labels == NO_LABEL
    if lacking.any() and not lacking.all():
        number = int(np.argmax(lacking))
        raise UserError(f"{paths[shard[number]]}: {keys[number]} has no label, others have one")
    names = shards.class_names(paths[0].rpartition("/")[0])
    if names and not lacking.all() and not 0 <= labels.min() <= labels.max() < len(names):
        number = int(np.argmax((labels < 0) | (labels >= len(names))))
        raise UserError(
            f"{paths[shard[number]]}: label {labels[number]} of {keys[number]} is none of the"
            f" {len(names)} classes of {shards.CLASSES_FILE}"
        )
    return TarSource(
        paths,
        shard,
        np.concatenate([offset for offset, _ in chosen]),
        np.concatenate([size for _, size in chosen]),
        keys,
        None if lacking.all() else labels,
        names,
    )


def _choose(
    path: str, index: cache.Index, wanted: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """(offset, size), int64[S] each, of the image of every sample of a shard."""
    extensions = PackedNames(index["extensions"], index["extension_ends"])
    none = len(wanted)
    ranks = np.array([wanted.index(e) if e in wanted else none for e in extensions], np.int64)
    counts = index["parts"]
    if len(counts) == 0:
        return counts, counts
    starts = np.cumsum(counts) - counts
    # The lowest rank of each sample, with the number of its part in the low digits.
    order = ranks[index["part_extension"]] * len(index["part_size"])
    best = np.minimum.reduceat(order + np.arange(len(order)), starts)
    rank, part = np.divmod(best, len(order))
    if (rank == none).any():
        number = int(np.argmax(rank == none))
        there = index["part_extension"][starts[number] : starts[number] + counts[number]]
        name = PackedNames(index["keys"], index["key_ends"])[number]
        raise UserError(
            f"{path}: the sample {name} has no image ({', '.join(wanted)}); its parts are:"
            f" {', '.join(extensions[n] for n in there)}"
        )
    return index["part_offset"][part], index["part_size"][part]
