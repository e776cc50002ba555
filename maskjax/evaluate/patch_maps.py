"""Evaluators of what methods say of single patches: a picture of it, and scores beside chance."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
from jax import Array

from maskjax.errors import UserError
from maskjax.evaluate.evaluator import Inputs, Predict, Result, State
from maskjax.evaluate.features import HostBatch
from maskjax.evaluate.hosts import local_rows, total
from maskjax.evaluate.picture_evaluators import Chosen, offered
from maskjax.observe import patch_maps

Rows = Mapping[str, np.ndarray]
# (sums over all images, how many images) -> (score, value, how it was measured).
Scores = Callable[[np.ndarray, int], Iterable[tuple[str, float, str]]]


@dataclasses.dataclass(frozen=True)
class Kind:
    """What is drawn and counted.

    Attributes:
        name: of evaluator and picture.
        predict: the method's function.
        fields: of its outputs, for the picture; arguments of `sheet`.
        counted: further ones, for the scores.
        title: of the picture.
        sheet: makes the picture.
        count: (fields of valid images, number of tokens) -> what is added up, float[S].
        scores: of those sums.
        first: the first images are drawn, groups and all; else those of most contrast.
    """

    name: str
    predict: str
    fields: tuple[str, ...]
    title: str
    sheet: Callable[..., np.ndarray]
    count: Callable[[Rows, int], np.ndarray]
    scores: Scores
    counted: tuple[str, ...] = ()
    first: bool = False


@dataclasses.dataclass(frozen=True)
class PatchMap:
    """A picture of test images, chosen as those of `Reconstruction`, and scores over all of them.

    With several processes each one draws its own images; the scores are of all.

    Attributes:
        inputs: the data.
        kind: what is drawn and counted.
        every: see `Evaluator`.
        num_images: of the picture.
        grid: (rows, columns) of the patches; None for square patches.
        vocab: number of visual tokens.
    """

    inputs: Inputs
    kind: Kind
    every: int = 0
    num_images: int = 8
    grid: tuple[int, int] | None = None
    vocab: int = 0

    @property
    def name(self) -> str:
        """As in the config."""
        return self.kind.name

    def run(self, predict: Predict, state: State) -> Iterator[Result]:
        """The picture, then the scores."""
        kind = self.kind
        run = self.inputs.runner(offered(predict, kind.predict), kind.predict, state)
        chosen = _First(self.num_images) if kind.first else Chosen(self.num_images)
        sums = np.zeros(1)
        for batch in self.inputs.test():
            outputs = run(batch)
            names = (*kind.fields, *kind.counted)
            fields = {name: _field(outputs, name, kind) for name in names}
            chosen.add(batch, {name: fields[name] for name in kind.fields})
            valid = np.asarray(batch["valid"], bool)
            rows = {name: local_rows(array)[valid] for name, array in fields.items()}
            sums = sums + np.append(valid.sum(), kind.count(rows, self.vocab))
        images, *sums = total(sums)
        if not images:
            raise UserError(f"evaluator {self.name!r}: there are no images")
        if rows := chosen.rows():
            title = f"{kind.title} of test images, step {int(state.step):,}"
            yield self.name, kind.sheet(**rows, grid=self.grid, title=title)
        facts = {"train_count": 0, "test_count": int(images)}
        for key, value, how in kind.scores(np.asarray(sums), int(images)):
            yield key, self.inputs.score(state, key, value, how, **facts)


class _First:
    """The first images, as they come."""

    def __init__(self, wanted: int):
        self._wanted = wanted
        self._found: list[dict[str, np.ndarray]] = []

    def add(self, batch: HostBatch, outputs: Mapping[str, Array]) -> None:
        for index in np.flatnonzero(batch["valid"])[: self._wanted - len(self._found)]:
            self._found.append({name: local_rows(x)[index].copy() for name, x in outputs.items()})

    def rows(self) -> dict[str, np.ndarray]:
        names = self._found[0] if self._found else ()
        return {name: np.stack([row[name] for row in self._found]) for name in names}


def _field(outputs: Mapping[str, Array], name: str, kind: Kind) -> Array:
    if name not in outputs:
        raise UserError(
            f"this method's {kind.predict} gives no {name!r}; leave the evaluator {kind.name!r} out"
        )
    return outputs[name]


def _token_counts(rows: Rows, vocab: int) -> np.ndarray:
    hidden, ids = rows["hidden"], rows["ids"]
    right = (hidden & (ids == rows["predicted"])).sum()
    return np.append(right, np.bincount(ids[hidden], minlength=vocab))


def _token_scores(sums: np.ndarray, images: int) -> Iterable[tuple[str, float, str]]:
    right, counts = sums[0], sums[1:]
    all_of = max(counts.sum(), 1)
    how = f"most likely of {len(counts)} tokens, all hidden patches, one mask per test image"
    yield "token_accuracy", right / all_of, how
    guess = f"{how}; guess = the token that is most frequent there"
    yield "token_accuracy_trivial", counts.max() / all_of, guess


def _order_counts(rows: Rows, _: int) -> np.ndarray:
    """Pairs of hidden patches in the right order (half for ties), and all with unequal losses."""
    predicted, errors = rows["difficulty"], rows["errors"]
    pairs = rows["hidden"][:, :, None] & rows["hidden"][:, None]
    pairs = pairs & (errors[:, :, None] < errors[:, None])
    rise = predicted[:, None] - predicted[:, :, None]
    return np.array([(pairs * (0.5 + 0.5 * np.sign(rise))).sum(), pairs.sum()])


def _order_scores(sums: np.ndarray, images: int) -> Iterable[tuple[str, float, str]]:
    how = (
        "share of the pairs of hidden patches of an image whose losses are predicted in the right"
        " order, from the whole image; one mask per test image; chance is 50 %"
    )
    yield "difficulty_order", sums[0] / max(sums[1], 1), how


def _kin_counts(rows: Rows, _: int) -> np.ndarray:
    num, shown = len(rows["kin"]), (~rows["hidden"]).sum(1)
    chance = (shown - 1) / (rows["hidden"].shape[1] - 1)
    return np.array([rows["kin"].sum(), chance.sum()]) if num else np.zeros(2)


def _kin_scores(sums: np.ndarray, images: int) -> Iterable[tuple[str, float, str]]:
    how = (
        "share of the patches nearest to a patch of a mixed image (cosine, as many as its own image"
        " has besides) that come from its own image"
    )
    yield "kin_recognised", sums[0] / images, how
    yield "kin_recognised_trivial", sums[1] / images, f"{how}; expected for patches at random"


def _choice_counts(rows: Rows, _: int) -> np.ndarray:
    right, hidden = rows["right"] & rows["hidden"], rows["hidden"]
    return np.array([right.sum(), hidden.sum(), hidden.any(1).sum()])


def _choice_scores(sums: np.ndarray, images: int) -> Iterable[tuple[str, float, str]]:
    how = "share of the hidden places whose own patch is chosen, among the hidden ones of the image"
    yield "choice_accuracy", sums[0] / max(sums[1], 1), how
    yield "choice_accuracy_trivial", sums[2] / max(sums[1], 1), f"{how}; expected at random"


def _likeness_counts(rows: Rows, _: int) -> np.ndarray:
    return np.array([rows["likeness"].sum(), rows["likeness_all"].sum()])


def _likeness_scores(sums: np.ndarray, images: int) -> Iterable[tuple[str, float, str]]:
    how = "mean cosine similarity of two patches, by the feature teacher's last tokens; of those"
    yield "kept_likeness", sums[0] / images, f"{how} that stay to the end"
    yield "kept_likeness_trivial", sums[1] / images, f"{how} of the whole image"


def _gaze_counts(rows: Rows, _: int) -> np.ndarray:
    looked = rows["importance"] / rows["importance"].sum(1, keepdims=True)
    visible = ~rows["hidden"]
    return np.array([(looked * visible).sum(), visible.mean(1).sum()])


def _gaze_scores(sums: np.ndarray, images: int) -> Iterable[tuple[str, float, str]]:
    how = "share of the teacher's attention to patches that falls on those that stay visible"
    yield "gaze_visible", sums[0] / images, how
    yield "gaze_visible_trivial", sums[1] / images, f"{how}; expected for patches at random"


TOKENS = Kind(
    "token_map",
    "tokens",
    ("original", "hidden", "ids", "predicted"),
    "Visual tokens",
    patch_maps.token_sheet,
    _token_counts,
    _token_scores,
)
DIFFICULTY = Kind(
    "difficulty",
    "reconstruct",
    ("original", "hidden", "difficulty", "errors"),
    "Predicted losses",
    patch_maps.difficulty_sheet,
    _order_counts,
    _order_scores,
)
GROUPS = Kind(
    "groups",
    "reconstruct",
    ("original", "hidden", "owner", "mixed", "pixels"),
    "Mixed groups",
    patch_maps.group_sheet,
    _kin_counts,
    _kin_scores,
    counted=("kin",),
    first=True,
)
CHOICES = Kind(
    "choices",
    "reconstruct",
    ("original", "hidden", "right", "pixels"),
    "Chosen patches",
    patch_maps.choice_sheet,
    _choice_counts,
    _choice_scores,
)
STAGES = Kind(
    "stages",
    "stages",
    ("original", "hidden", "stage"),
    "Patches that stay",
    patch_maps.stage_sheet,
    _likeness_counts,
    _likeness_scores,
    counted=("likeness", "likeness_all"),
)
GAZE = Kind(
    "gaze",
    "gaze",
    ("original", "hidden", "importance"),
    "The teacher's view",
    patch_maps.gaze_sheet,
    _gaze_counts,
    _gaze_scores,
)
KINDS = (TOKENS, DIFFICULTY, GROUPS, CHOICES, STAGES, GAZE)
