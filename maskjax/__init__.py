"""maskjax: masked image modelling in JAX, with masks as first-class values."""

import importlib
import os
from typing import Any

__version__ = "0.1.0"


def load(path: str | os.PathLike, **options: Any) -> tuple[dict, dict, dict]:
    """(predict functions, params, metadata) of a run, or of weights in any known layout.

    predict["encode"](params, images) gives {"cls", "mean", "tokens", ...} for images
    [B, H, W, C] in uint8, or in float32 if they are standardised already. Options and errors: see
    `maskjax.saved.load`.
    """
    # By name: the lower floors import this file, and must not depend on what it opens.
    return importlib.import_module("maskjax.saved").load(path, **options)
