"""Writers for services that follow experiments: Weights & Biases, MLflow. Both are optional.

Where they send to, and as whom, is theirs to know: `wandb login` or WANDB_MODE=offline,
MLFLOW_TRACKING_URI. A run that goes on after a stop goes on there too: its id is kept in the
workdir.
"""

import importlib
import os
import pathlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from maskjax.errors import UserError
from maskjax.observe.files import write_atomic

_LONGEST = 500  # characters of a parameter that MLflow takes


class WandbWriter:
    """Numbers and pictures to a project of Weights & Biases."""

    def __init__(self, workdir: str | os.PathLike, project: str, config: Mapping[str, Any]):
        """Starts a run there, or goes on with the one that this workdir has.

        Raises:
            UserError: if wandb is not installed.
        """
        self._wandb = _package("wandb", "wandb")
        id_file = _IdFile(workdir, "wandb_id.txt")
        self._run = self._wandb.init(
            project=project,
            name=pathlib.Path(workdir).resolve().name,
            dir=str(workdir),
            config=dict(config),
            id=id_file.value,
            resume="allow",
        )
        id_file.keep(self._run.id)

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """One point per key."""
        self._run.log({name: float(value) for name, value in values.items()}, step=step)

    def image(self, step: int, name: str, image: Any) -> None:
        """A picture uint8[H, W, C]."""
        self._run.log({name: self._wandb.Image(image)}, step=step)

    def close(self) -> None:
        """Ends the run there."""
        self._run.finish()


class MlflowWriter:
    """Numbers and pictures to an experiment of MLflow; the config as parameters."""

    def __init__(self, workdir: str | os.PathLike, experiment: str, config: Mapping[str, Any]):
        """Starts a run there, or goes on with the one that this workdir has.

        Raises:
            UserError: if mlflow is not installed.
        """
        self._mlflow = _package("mlflow", "mlflow")
        id_file = _IdFile(workdir, "mlflow_id.txt")
        self._mlflow.set_experiment(experiment)
        name = pathlib.Path(workdir).resolve().name
        run = self._mlflow.start_run(run_id=id_file.value, run_name=name)
        if id_file.value is None:  # parameters cannot be written twice
            self._mlflow.log_params(_flat(config))
        id_file.keep(run.info.run_id)

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """One point per key."""
        numbers = {name: float(value) for name, value in values.items()}
        self._mlflow.log_metrics(numbers, step=step)

    def image(self, step: int, name: str, image: Any) -> None:
        """A picture uint8[H, W, C]."""
        self._mlflow.log_image(image, f"{name}/{step:08d}.png")

    def close(self) -> None:
        """Ends the run there."""
        self._mlflow.end_run()


class _IdFile:
    """The name that a service gave to this run."""

    def __init__(self, workdir: str | os.PathLike, name: str):
        self._path = pathlib.Path(workdir) / name
        found = self._path.is_file() and self._path.read_text(encoding="utf-8").strip()
        self.value: str | None = found or None

    def keep(self, value: str):
        write_atomic(self._path, f"{value}\n")


def _package(name: str, entry: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f'config.{entry}: needs the package {name}: pip install "maskjax[{entry}]"; or set it'
            ' to ""'
        ) from error


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """{dotted key: value as text}."""
    found = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = str(value)[:_LONGEST]
    return found
