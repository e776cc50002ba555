"""One trained run that the commands read, and image files for them."""

import numpy as np
import pytest
import runs
from PIL import Image


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of a finished run: checkpoints 12 and 24, TensorBoard files, a moving average."""
    workdir = tmp_path_factory.mktemp("trained") / "run"
    assert runs.train(workdir, "checkpoint.every=12", "tensorboard=True") == 0
    return workdir


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A colour PNG and a grey JPEG, of other sizes than the model's."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8)).save(folder / "colour.png")
    Image.fromarray(rng.integers(0, 255, (40, 30), np.uint8)).save(folder / "grey.jpg")
    return [folder / "colour.png", folder / "grey.jpg"]
