"""Writers for experiment services, against stand-ins of their packages that note every call."""

import sys
import types

import numpy as np
import pytest

from maskjax.errors import UserError
from maskjax.observe.writers import open_writers

CONFIG = {"seed": 0, "model": {"dim": 32, "long": "x" * 900}}
IMAGE = np.zeros((4, 6, 3), np.uint8)


class Notes(list):
    """A function of any name that notes how it was called."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self.append((name, args, kwargs))

    def named(self, name):
        return [(args, kwargs) for called, args, kwargs in self if called == name]


@pytest.fixture
def wandb(monkeypatch):
    notes = Notes()
    module = types.ModuleType("wandb")

    def init(**options):
        notes.append(("init", (), options))
        name = options["id"] or "run-7"
        return types.SimpleNamespace(id=name, log=notes.log, finish=notes.finish)

    module.init, module.Image = init, lambda image: ("picture", image.shape)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return notes


@pytest.fixture
def mlflow(monkeypatch):
    notes = Notes()
    module = types.ModuleType("mlflow")

    def start_run(run_id, run_name):
        notes.append(("start_run", (), {"run_id": run_id, "run_name": run_name}))
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=run_id or "abc"))

    module.start_run = start_run
    for name in ("set_experiment", "log_params", "log_metrics", "log_image", "end_run"):
        setattr(module, name, getattr(notes, name))
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return notes


def write(workdir, **which):
    with open_writers(workdir, tensorboard=False, config=CONFIG, **which) as writers:
        writers.scalars(5, {"loss": np.float32(0.5)})
        writers.image(5, "reconstruction", IMAGE)


def test_wandb(wandb, tmp_path):
    write(tmp_path, wandb="project")
    ((_, options),) = wandb.named("init")
    assert (options["project"], options["config"], options["id"]) == ("project", CONFIG, None)
    assert options["name"] == tmp_path.name
    scalars, picture = wandb.named("log")
    assert scalars == (({"loss": 0.5},), {"step": 5})
    assert picture == (({"reconstruction": ("picture", (4, 6, 3))},), {"step": 5})
    assert len(wandb.named("finish")) == 1


def test_wandb_goes_on_with_its_run(wandb, tmp_path):
    write(tmp_path, wandb="project")
    write(tmp_path, wandb="project")
    assert [options["id"] for _, options in wandb.named("init")] == [None, "run-7"]


def test_mlflow(mlflow, tmp_path):
    write(tmp_path, mlflow="experiment")
    write(tmp_path, mlflow="experiment")
    assert mlflow.named("set_experiment") == [(("experiment",), {})] * 2
    assert [options["run_id"] for _, options in mlflow.named("start_run")] == [None, "abc"]
    (((params,), _),) = mlflow.named("log_params")  # once: MLflow refuses other values later
    assert params["model.dim"] == "32"
    assert len(params["model.long"]) == 500
    assert mlflow.named("log_metrics")[0] == (({"loss": 0.5},), {"step": 5})
    assert mlflow.named("log_image")[0][0][1] == "reconstruction/00000005.png"
    assert len(mlflow.named("end_run")) == 2


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_named(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=rf"config\.{name}: needs the package {name}"):
        open_writers(tmp_path, tensorboard=False, **{name: "x"})


def test_other_processes_start_nothing(wandb, mlflow, tmp_path):
    write(tmp_path, wandb="project", mlflow="experiment", enabled=False)
    assert wandb == mlflow == []
    assert list(tmp_path.iterdir()) == []
