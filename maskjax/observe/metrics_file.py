"""metrics.jsonl: one JSON object a line, {"step": int, "time": seconds since 1970, key: number}.

A number that is not finite is written as the string "nan", "inf" or "-inf": strict JSON has no
literal for it. `read_metrics` turns these back into floats.
"""

import json
import math
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from maskjax.observe.files import as_float, encode, write_atomic

NAME = "metrics.jsonl"


def encode_line(step: int, time: float, values: Mapping[str, Any]) -> str:
    """One line, newline included; the values are numbers or 0-d arrays."""
    numbers = {name: float(value) for name, value in values.items()}
    line = {"step": int(step), "time": round(float(time), 3), **numbers}
    return json.dumps(encode(line), allow_nan=False) + "\n"


def read_metrics(path: str | os.PathLike) -> list[dict[str, float]]:
    """The lines of a metrics file in order; [] if there is no file.

    A line that is not a JSON object with a step is left out: a process killed while writing
    leaves half a line at the end.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        return []
    return [values for _, values in _lines(path)]


def drop_after(path: str | os.PathLike, step: int) -> int:
    """Rewrites the file without the lines of steps beyond `step`, atomically.

    A resumed run writes those steps again. Unreadable lines go as well.

    Returns:
        How many lines went.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        return 0
    kept = [text for text, values in _lines(path) if values["step"] <= step]
    content = path.read_text(encoding="utf-8", errors="replace")
    total = len(content.splitlines())
    if len(kept) < total or not content.endswith("\n"):
        write_atomic(path, "".join(f"{text}\n" for text in kept))
    return total - len(kept)


def column(lines: list[dict[str, float]], key: str) -> tuple[list[int], list[float]]:
    """Steps and finite values of one key, in the order of the file."""
    seen = [line for line in lines if math.isfinite(line.get(key, math.nan))]
    return [int(line["step"]) for line in seen], [line[key] for line in seen]


def _lines(path: pathlib.Path) -> Iterator[tuple[str, dict[str, float]]]:
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            values = {key: as_float(value) for key, value in json.loads(text).items()}
            values["step"] = int(values["step"])
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            continue
        yield text, values
