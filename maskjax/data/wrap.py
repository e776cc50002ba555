"""Sources made of other sources: a part of one, several as one."""

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from maskjax.data.ids import source_ids
from maskjax.errors import UserError

if TYPE_CHECKING:
    from maskjax.data.source import Source

LABELS = ("keep", "offset", "absent")


def kind_of(source: "Source") -> str:
    """What the examples of a source are: a key of ``data.source.KINDS``."""
    return getattr(source, "kind", "image")


class SubsetSource:
    """Some examples of another source, in their order there; labels and ids stay as they are.

    Args:
        source: see ``data.source``.
        numbers: which examples, ascending: a range or int[N].
    """

    def __init__(self, source: "Source", numbers: range | np.ndarray):
        self.source, self.numbers = source, numbers
        self.class_names, self.kind = source.class_names, kind_of(source)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.source[int(self.numbers[index])]

    def ids(self) -> list[str]:
        """The id of every example."""
        names = source_ids(self.source)
        return [names[number] for number in self.numbers]


class ConcatSource:
    """Several sources of one kind, one after another.

    Args:
        parts: at least one source.
        labels: "keep" takes the labels as they are; "offset" adds to each part's labels the number
            of classes of the parts before it; "absent" leaves them out.
        names: of the parts, for messages.
        prefixes: put before the ids of each part, so that ids stay unique.

    Raises:
        UserError: the parts are of different kinds; labels "keep" and the parts differ in their
            classes, or only some are labelled; "offset" and a part has no class names.
    """

    def __init__(
        self,
        parts: Sequence["Source"],
        labels: str = "keep",
        names: Sequence[str] = (),
        prefixes: Sequence[str] = (),
    ):
        self.parts, self.labels = tuple(parts), labels
        self.names = tuple(names) or tuple(f"part {number}" for number in range(len(parts)))
        self.prefixes = tuple(prefixes) or ("",) * len(parts)
        self.kind = _common_kind(self.parts, self.names)
        self.class_names = _class_names(self.parts, labels, self.names)
        self.starts = np.array([0, *accumulate(len(part) for part in parts)])
        classes = [len(part.class_names or ()) * (labels == "offset") for part in parts]
        self._offsets = [0, *accumulate(classes)]

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        number = int(np.searchsorted(self.starts, index, side="right")) - 1
        example = dict(self.parts[number][int(index - self.starts[number])])
        example["id"] = self.prefixes[number] + example["id"]
        if self.labels == "absent":
            example.pop("label", None)
        elif "label" in example:
            example["label"] += self._offsets[number]
        return example

    def ids(self) -> list[str]:
        """The id of every example."""
        pairs = zip(self.prefixes, self.parts, strict=True)
        return [prefix + name for prefix, part in pairs for name in source_ids(part)]

    def divide(self, numbers: range | np.ndarray) -> list[np.ndarray]:
        """For each part, which of its own examples are among ``numbers`` (ascending) of these."""
        numbers = np.asarray(numbers)
        cuts = np.searchsorted(numbers, self.starts)
        return [
            numbers[low:high] - start
            for low, high, start in zip(cuts, cuts[1:], self.starts, strict=False)
        ]


class MixSource(ConcatSource):
    """``ConcatSource`` whose parts are drawn in given shares when it is trained on.

    In training, each ``window`` positions of the stream that begin at a multiple of it hold exactly
    ``counts[n]`` examples of part n, at random places, and each part goes through its own epochs;
    see ``data.order``. Evaluation reads every example of every part once.

    Args:
        counts: of each part in a window, positive.
        parts, labels, names, prefixes: as for ``ConcatSource``.
    """

    def __init__(self, counts: Sequence[int], parts: Sequence["Source"], *args, **options):
        super().__init__(parts, *args, **options)
        self.counts, self.window = tuple(counts), sum(counts)

    def select(self, numbers: range | np.ndarray) -> "MixSource":
        """The examples ``numbers`` (ascending), in the same shares.

        Raises:
            UserError: a part would be empty.
        """
        chosen = self.divide(numbers)
        for name, own in zip(self.names, chosen, strict=True):
            if not len(own):
                raise UserError(f"the mixture has a share of {name}, but none of it is chosen")
        parts = [select(part, own) for part, own in zip(self.parts, chosen, strict=True)]
        return MixSource(self.counts, parts, self.labels, self.names, self.prefixes)


def select(source: "Source", numbers: range | Sequence[int] | np.ndarray) -> "Source":
    """The examples ``numbers`` (ascending) of a source; a mixture keeps its shares."""
    if not isinstance(numbers, range):
        numbers = np.asarray(numbers)
    if isinstance(source, MixSource):
        return source.select(numbers)
    return SubsetSource(source, numbers)


def _common_kind(parts: Sequence["Source"], names: Sequence[str]) -> str:
    kinds = [kind_of(part) for part in parts]
    for kind, name in zip(kinds, names, strict=True):
        if kind != kinds[0]:
            raise UserError(
                f"{names[0]} has examples of kind {kinds[0]!r}, {name} of kind {kind!r}: they"
                " cannot be mixed"
            )
    return kinds[0]


def _class_names(
    parts: Sequence["Source"], labels: str, names: Sequence[str]
) -> tuple[str, ...] | None:
    if labels not in LABELS:
        raise UserError(f"labels={labels}: must be one of {', '.join(LABELS)}")
    if labels == "absent":
        return None
    if labels == "offset":
        for part, name in zip(parts, names, strict=True):
            if part.class_names is None:
                raise UserError(f"labels=offset: the number of classes of {name} is not known")
        return tuple(text for part in parts for text in part.class_names)
    labelled = ["label" in part[0] for part in parts]
    for part, name, has in zip(parts, names, labelled, strict=True):
        if has != labelled[0]:
            with_labels, without = (names[0], name) if labelled[0] else (name, names[0])
            raise UserError(f"{with_labels} has labels and {without} has none; labels=absent")
        if part.class_names != parts[0].class_names:
            raise UserError(
                f"{names[0]} and {name} have different classes; choose labels=offset or absent"
            )
    return parts[0].class_names
