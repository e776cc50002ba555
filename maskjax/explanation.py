"""Explanations of a run's classifier: of an image, and of how it takes to missing pixels."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from maskjax import data_parts, evaluation
from maskjax.errors import UserError
from maskjax.explain import missingness, pictures, segments
from maskjax.explain.lime import explain
from maskjax.explain.lime_scores import lime_scores
from maskjax.explain.runs import classifiers, maskings
from maskjax.observe.files import write_atomic
from maskjax.observe.pictures import save_png
from maskjax.saved import SavedRun


@dataclasses.dataclass(frozen=True)
class Explanation:
    """LIME's answer for one image.

    Attributes:
        image: uint8[H, W, C], as the network gets it.
        segments: int32[H, W].
        coefficients: {way of hiding: float32[S]}.
        title: what was explained, in words.
    """

    image: np.ndarray
    segments: np.ndarray
    coefficients: dict[str, np.ndarray]
    title: str

    def write(self, out: pathlib.Path) -> pathlib.Path:
        """Writes the picture, and beside it the CSV, whose path is returned."""
        sheet = pictures.lime_sheet(self.image, self.segments, self.coefficients, title=self.title)
        save_png(out, sheet)
        table = out.with_suffix(".csv")
        write_table(table, pictures.lime_rows(self.segments, self.coefficients))
        return table


def lime(
    run: SavedRun,
    path: str,
    names: Sequence[str] = (),
    *,
    label: int | None = None,
    kind: str = "slic",
    cells: int = 50,
    num: int = 512,
    seed: int = 0,
) -> Explanation:
    """LIME on the super-pixels of an image file.

    Args:
        run: an open run whose method can hide pixels.
        path: of the image; it is resized and cropped as in evaluation.
        names: ways of hiding, see `maskings`; () = all.
        label: the class that is explained; None = the predicted one.
        kind, cells: of the segments, see `segments.segment`.
        num, seed: of the perturbations.

    Raises:
        UserError: for a name, label, segments or image that cannot be.
    """
    found = _classifiers(run, names)
    image = evaluation.images_batch(run.config, [path])["image"][0]
    classes = run.config.model.num_classes
    if label is not None and not 0 <= label < classes:
        raise UserError(f"--label={label}: the network has the classes 0 to {classes - 1}")
    whole = np.ones((1, *image.shape[:2]), bool)
    scores = next(iter(found.values()))(image[None], whole)[0]
    label = int(scores.argmax()) if label is None else label
    parts = segments.segment(image, kind, cells=cells)
    number = int(parts.max()) + 1
    if number < 2:
        raise UserError(f"{path}: {kind} finds one segment only; take --segments=grid")
    coefficients = explain(found, image, parts, label, num=num, seed=seed)
    share = f"probability {scores[label]:.2f} of the whole image"
    what = f"class {label}{_class_name(run, label)}, {share}; {number} segments, {num} samples"
    title = f"{pathlib.Path(path).name}: {what}"
    return Explanation(image, parts, coefficients, title)


def test(
    run: SavedRun,
    method: str,
    names: Sequence[str] = (),
    *,
    num: int = 512,
    side: int = 8,
    seed: int = 0,
) -> list[missingness.Row]:
    """One of the tests of `explain.missingness` on the first test images of the run's data.

    Args:
        run: an open run whose method can hide pixels.
        method: "removal", "shape", "scores" (both: objects are found by a threshold) or
            "linearity".
        names: ways of hiding; () = all.
        num: images.
        side: removal and scores: cells on a side of the grid.
        seed: of what is hidden.

    Raises:
        UserError: for a name or method that does not exist, or data without labels.
    """
    images, labels = _test_images(run, num)
    if method == "linearity":
        return missingness.linearity(_classifiers(run, names, features=True), images, seed=seed)
    found = _classifiers(run, names)
    if method == "removal":
        return missingness.removal(found, images, labels, side=side, seed=seed)
    if method == "shape":
        objects = np.stack([missingness.object_mask(image) for image in images])
        return missingness.shape_leak(found, images, labels, objects)
    if method == "scores":
        judge = _classifiers(run, ("grey",))["grey"]
        objects = np.stack([missingness.object_mask(image) for image in images])
        cells = lambda image: segments.grid(image.shape[:2], side)  # noqa: E731
        options = {"top": side * side // 4, "seed": seed}
        return lime_scores(found, judge, images, labels, objects, cells, **options)
    raise UserError(f"test {method!r}: there are removal, shape, scores and linearity")


def write_table(path: pathlib.Path, rows: Sequence[missingness.Row]) -> str:
    """Writes rows as CSV; returns them as text for people."""
    write_atomic(path, pictures.to_csv(rows).encode())
    return pictures.to_table(rows)


def _classifiers(run: SavedRun, names: Sequence[str], *, features: bool = False) -> dict:
    method = run.parts.method
    names = tuple(names) or maskings(method)
    return classifiers(method, run.params, run.extra, names, features=features)


def _class_name(run: SavedRun, label: int) -> str:
    """The name in brackets, where the data is on this machine and has names; else nothing."""
    try:
        names = data_parts.data_source(run.config, "train").class_names
    except UserError:
        return ""
    return f" ({names[label]})" if names is not None and label < len(names) else ""


def _test_images(run: SavedRun, num: int) -> tuple[np.ndarray, np.ndarray]:
    """The first images and labels; every k-th of the test data, so that all classes are there."""
    images, labels = [], []
    for batch in evaluation.evaluation_inputs(run.config).test():
        valid = np.asarray(batch["valid"], bool)
        if "label" not in batch:
            raise UserError("config.data: the tests need test data with labels")
        images.append(np.asarray(batch["image"])[valid])
        labels.append(np.asarray(batch["label"])[valid])
    image, label = np.concatenate(images), np.concatenate(labels)
    step = max(1, len(label) // num)
    return image[::step][:num], label[::step][:num]
