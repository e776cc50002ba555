"""The commands and the code of docs/weights.md, made small enough to run."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from runs import SHORT

from maskjax.interop import Geometry, export_weights
from maskjax.interop.shapes import param_tree

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "weights.md").read_text()
# ViT-B becomes the tiny model, on the data of its config; official files have another suffix.
SMALL = {":b16": ":tiny", ".pth": ".safetensors"}
TINY = Geometry((8, 8), 2, 1, 32, 2, 2, 128, 16, 1, 2, 64)


def commands() -> list[list[str]]:
    """Arguments of every `maskjax` command, in the order of the page."""
    blocks = re.findall(r"```bash\n(.*?)```", TEXT, re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    found = []
    for line in lines:
        for old, new in SMALL.items():
            line = line.replace(old, new)
        name, *argv = shlex.split(line)
        assert name == "maskjax"
        found.append([*argv, *(SHORT if argv[0] == "train" else ())])
    assert len(found) >= 8
    return found


def python() -> list[str]:
    """The code blocks."""
    return re.findall(r"```python\n(.*?)```", TEXT, re.S)


def needs_torch(block: str) -> bool:
    """Whether a block imports PyTorch code."""
    return "import timm" in block or "import transformers" in block


def prepare(folder: Path) -> Path:
    """Puts files with the names of official MAE weights into the folder."""
    draw = np.random.default_rng(0).normal
    shapes = param_tree(TINY)
    params = jax.tree.map(lambda leaf: np.float32(draw(0, 0.2, leaf.shape)), shapes)
    for name, what in (("_full", "full"), ("", "encoder")):
        out = folder / f"mae_pretrain_vit_base{name}.safetensors"
        export_weights(params, replace(TINY), {}, "mae", out, what)
    return folder
