"""Folders as Hugging Face and timm keep models: config.json beside the weights, maybe in shards."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from maskjax.errors import UserError
from maskjax.interop import files

CONFIG, WEIGHTS = "config.json", "model.safetensors"
PROCESSOR = "preprocessor_config.json"
INDEX = ".index.json"
# In this order: a folder that has several of them holds the same weights twice.
NAMES = (WEIGHTS, WEIGHTS + INDEX, "pytorch_model.bin", "pytorch_model.bin" + INDEX)


@dataclass(frozen=True)
class Weights:
    """What a file or folder holds.

    Attributes:
        arrays: Tensors by key.
        metadata: Of the file ({} where the format has none, or there are shards).
        config: config.json of a folder; {} for a file.
        processor: What a folder says of its images (preprocessor_config.json); {} for a file.
    """

    arrays: Mapping[str, np.ndarray]
    metadata: Mapping[str, str]
    config: Mapping[str, Any] = field(default_factory=dict)
    processor: Mapping[str, Any] = field(default_factory=dict)


def read(path: str | os.PathLike) -> Weights:
    """Reads a weights file, or the folder of a model.

    Raises:
        UserError: There is no such thing, it holds no weights, or a file of it is damaged.
    """
    path = Path(path)
    if not path.is_dir():
        return Weights(*files.read(path))
    name = next((name for name in NAMES if (path / name).is_file()), None)
    if name is None:
        raise UserError(f"{path}: a folder without weights; looked for {', '.join(NAMES)}.")
    config, processor = (
        read_json(path / beside) if (path / beside).is_file() else {}
        for beside in (CONFIG, PROCESSOR)
    )
    if not name.endswith(INDEX):
        return Weights(*files.read(path / name), config, processor)
    return Weights(_read_shards(path / name), {}, config, processor)


def is_folder_name(path: str | os.PathLike) -> bool:
    """Whether an output of this name is a folder: it is one, ends in "/", or has no suffix."""
    return Path(path).is_dir() or str(path).endswith(os.sep) or not Path(path).suffix


def write_json(path: Path, content: Mapping[str, Any]):
    """Writes a JSON object, whole or not at all.

    Raises:
        UserError: The system refuses the path.
    """
    text = json.dumps(content, indent=2) + "\n"
    files.write_whole(Path(path), lambda temporary: temporary.write_text(text))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        UserError: It is not one.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not an object.")
    return content


def _read_shards(index: Path) -> dict[str, np.ndarray]:
    """All tensors that the index names, each from the file it names."""
    where = read_json(index).get("weight_map")
    if not isinstance(where, dict) or not where:
        raise UserError(f"{index} has no weight_map; copy the folder again.")
    arrays: dict[str, np.ndarray] = {}
    for shard in sorted(set(where.values())):
        if Path(shard).name != shard:
            raise UserError(f"{index} names {shard!r}, which is not a file of this folder.")
        found, _ = files.read(index.parent / shard)
        lacking = [key for key, file in where.items() if file == shard and key not in found]
        if lacking:
            raise UserError(f"{index} says that {shard} holds {lacking[0]}, which it does not.")
        arrays |= {key: found[key] for key, file in where.items() if file == shard}
    return arrays
