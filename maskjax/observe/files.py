"""Files of a run directory: written whole or not at all, and JSON without NaN literals."""

import contextlib
import json
import math
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

from maskjax.errors import UserError

# Strict JSON has no NaN and no infinity, and null would lose which of the three it was.
_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """A name to write to; what is there at the end takes the name `path`, unless an error came.

    A reader, or a crash, so sees the old content or the new, never a part. The suffix is that of
    `path`; the new file is synced to disk before it takes the old one's name.
    """
    path = pathlib.Path(path)
    handle, name = tempfile.mkstemp(
        dir=path.resolve().parent, prefix=f".{path.name}.", suffix=path.suffix
    )
    os.close(handle)
    temporary = pathlib.Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp makes private files; a run's are for the team
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomic(path: str | os.PathLike, content: str | bytes) -> pathlib.Path:
    """Writes a file as `replacing` does; parent folders are made."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def encode(value: Any) -> Any:
    """The value with every non-finite float as "nan", "inf" or "-inf", ready for strict JSON.

    Mappings, sequences, scalars of numpy and 0-d arrays are taken; tuples become lists.
    """
    if hasattr(value, "items"):
        return {str(key): encode(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [encode(inner) for inner in value]
    if hasattr(value, "item") and not isinstance(value, str | bytes):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def as_float(value: Any) -> float:
    """A number as `encode` wrote it, back as a float.

    Raises:
        ValueError: for a string that is no number.
    """
    return _NON_FINITE[value] if value in _NON_FINITE else float(value)


def write_json(path: str | os.PathLike, value: Any) -> pathlib.Path:
    """Writes sorted, indented, strict JSON atomically."""
    text = json.dumps(encode(value), indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return write_atomic(path, text + "\n")


def read_json(path: str | os.PathLike) -> Any:
    """Reads a JSON file.

    Raises:
        UserError: if it is missing or not JSON.
    """
    path = pathlib.Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; is {path.parent} the folder of a run?") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from error


def with_tuples(value: Any) -> Any:
    """A value read from JSON in which every list, however deep, is a tuple again."""
    if isinstance(value, dict):
        return {key: with_tuples(inner) for key, inner in value.items()}
    return tuple(map(with_tuples, value)) if isinstance(value, list) else value
