"""The golden vectors, for tests that compare single functions with them."""

import json
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"


@pytest.fixture
def golden():
    """name -> (config, arrays) of a golden file; skips where the folder is not there."""

    def load(name: str):
        path = GOLDEN / f"{name}.npz"
        if not path.exists():
            pytest.skip(f"no golden vectors at {path}")
        with np.load(path) as file:
            arrays = dict(file)
        return json.loads(str(arrays.pop("config"))), arrays

    return load
