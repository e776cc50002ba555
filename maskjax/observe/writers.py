"""Where numbers and pictures of a run go: metrics.jsonl always, TensorBoard and others if wanted.

Only process 0 writes; the others get a writer without targets, so that the code around is the same
on all of them.
"""

import os
import pathlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from maskjax.errors import UserError
from maskjax.observe import metrics_file, trackers


class Writer(Protocol):
    """A target for numbers and pictures."""

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Numbers of a step: floats or 0-d arrays."""

    def image(self, step: int, name: str, image: Any) -> None:
        """A picture uint8[H, W, 3 or 1] of a step."""

    def close(self) -> None:
        """Ends writing; everything is on disk afterwards."""


class JsonlWriter:
    """Appends to metrics.jsonl; a line is handed to the system before `scalars` returns.

    Pictures are not its business; it ignores them.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        restored_step: int | None = None,
        clock: Callable[[], float] = time.time,
    ):
        """Opens the file for appending.

        Args:
            workdir: folder of the run.
            restored_step: step of the checkpoint a run goes on from (0 = from scratch); lines of
                later steps are dropped. None keeps all lines.
            clock: seconds since 1970.
        """
        path = pathlib.Path(workdir) / metrics_file.NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        if restored_step is not None:
            metrics_file.drop_after(path, restored_step)
        self._file = path.open("a", encoding="utf-8")
        self._clock = clock

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes one line."""
        self._file.write(metrics_file.encode_line(step, self._clock(), values))
        self._file.flush()

    def image(self, step: int, name: str, image: Any) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class PictureWriter:
    """Saves pictures as pictures/<name>.png, the latest of each name; ignores numbers."""

    def __init__(self, workdir: str | os.PathLike):
        self._folder = pathlib.Path(workdir) / "pictures"

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Does nothing."""

    def image(self, step: int, name: str, image: Any) -> None:
        """Writes the PNG file."""
        from maskjax.observe.pictures import save_png

        save_png(self._folder / f"{safe_name(name)}.png", image)

    def close(self) -> None:
        """Nothing to close."""


class TensorBoardWriter:
    """TensorBoard event files under tb/, by tensorboardX (no TensorFlow)."""

    def __init__(self, workdir: str | os.PathLike, *, restored_step: int | None = None):
        """Opens a new event file; later steps than `restored_step` are hidden by TensorBoard.

        Raises:
            UserError: if tensorboardX is not installed.
        """
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise UserError(
                "config.tensorboard = True needs the package tensorboardX:"
                " pip install tensorboardX, or set it to False"
            ) from error
        purge = None if restored_step is None else restored_step + 1
        self._writer = SummaryWriter(str(pathlib.Path(workdir) / "tb"), purge_step=purge)

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """One curve point per key."""
        for name, value in values.items():
            self._writer.add_scalar(name, float(value), step)

    def image(self, step: int, name: str, image: Any) -> None:
        """A picture uint8[H, W, C]."""
        self._writer.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        """Flushes and closes."""
        self._writer.close()


class MultiWriter:
    """Hands everything to several writers; with none of them it does nothing."""

    def __init__(self, writers: Sequence[Writer] = ()):
        self._writers = tuple(writers)

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Numbers to all."""
        for writer in self._writers:
            writer.scalars(step, values)

    def image(self, step: int, name: str, image: Any) -> None:
        """A picture to all."""
        for writer in self._writers:
            writer.image(step, name, image)

    def close(self) -> None:
        """Closes all."""
        for writer in self._writers:
            writer.close()

    def __enter__(self) -> "MultiWriter":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()


def open_writers(
    workdir: str | os.PathLike,
    *,
    restored_step: int | None = None,
    tensorboard: bool = True,
    wandb: str = "",
    mlflow: str = "",
    config: Mapping[str, Any] | None = None,
    enabled: bool = True,
) -> MultiWriter:
    """The writers of a run.

    Args:
        workdir: folder of the run.
        restored_step: see `JsonlWriter`.
        tensorboard: whether to write event files as well.
        wandb, mlflow: a project of Weights & Biases, an experiment of MLflow; "" = none.
        config: of the run, for these two.
        enabled: False on every process but the first.

    Raises:
        UserError: if a package that is wanted is not installed.
    """
    if not enabled:
        return MultiWriter()
    writers: list[Writer] = [
        JsonlWriter(workdir, restored_step=restored_step),
        PictureWriter(workdir),
    ]
    if tensorboard:
        writers.append(TensorBoardWriter(workdir, restored_step=restored_step))
    if wandb:
        writers.append(trackers.WandbWriter(workdir, wandb, config or {}))
    if mlflow:
        writers.append(trackers.MlflowWriter(workdir, mlflow, config or {}))
    return MultiWriter(writers)


def safe_name(name: str) -> str:
    """A picture's name as a file name: letters, digits, "-", "_", "." and nothing else."""
    return re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII).strip("._") or "picture"
