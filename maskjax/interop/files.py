"""Read and write tensor files: safetensors, .npz, and PyTorch's .pth and .bin (reading only).

Everything works without torch except reading pickles, which is left to torch's own restricted
unpickler. Writes are atomic: a reader sees the old file or the whole new one.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from maskjax.errors import UserError
from maskjax.interop.pickles import read_pickle

Arrays = dict[str, np.ndarray]
Metadata = dict[str, str]

PICKLES = (".pth", ".pt", ".bin")
# Entries of an .npz that are not tensors: the metadata, and the types numpy cannot store.
NPZ_METADATA, NPZ_DTYPES = "__metadata__", "__dtypes__"


def read(path: str | os.PathLike) -> tuple[Arrays, Metadata]:
    """Read all tensors of a file, and its metadata ({} where the format has none).

    Raises:
        UserError: The file is not there, of an unknown kind, damaged, not what its name says, or a
            pickle that cannot be read safely.
    """
    path = Path(path)
    _check_readable(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix == ".npz":
        return _read_npz(path)
    if path.suffix in PICKLES:
        return read_pickle(path), {}
    raise UserError(
        f"{path}: unknown kind of weights file {path.suffix!r}; "
        f"use .safetensors, .npz or one of {', '.join(PICKLES)}."
    )


def write(path: str | os.PathLike, arrays: Mapping[str, np.ndarray], metadata: Metadata) -> None:
    """Write tensors and metadata to a .safetensors or .npz file, atomically.

    Args:
        path: Where to; the folder is made when it is missing.
        arrays: Tensors by key, any memory layout, bfloat16 included.
        metadata: Strings by key.

    Raises:
        UserError: The suffix is not one we write, or the system refuses the path.
    """
    path = Path(path)
    check_writable_kind(path)
    arrays = {key: np.asarray(array, order="C") for key, array in arrays.items()}
    writer = _write_safetensors if path.suffix == ".safetensors" else _write_npz
    write_whole(path, lambda temporary: writer(temporary, arrays, metadata))


def write_whole(path: Path, write_to: Callable[[Path], None]) -> None:
    """Make a file by a function that writes to a path; a reader sees all of it or none.

    Raises:
        UserError: The system refuses the path.
    """
    try:
        _atomically(path, write_to)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}.") from None


def check_writable_kind(path: str | os.PathLike) -> None:
    """Refuse a file name whose suffix is not one we write.

    Raises:
        UserError: The suffix is neither .safetensors nor .npz.
    """
    path = Path(path)
    if path.suffix not in (".safetensors", ".npz"):
        raise UserError(
            f"{path}: weights are written as .safetensors (which PyTorch, timm and transformers "
            f"read) or .npz, not as {path.suffix or 'a file without suffix'!r}."
        )


def _atomically(path: Path, write_to: Callable[[Path], None]) -> None:
    """Write beside the target, then rename: the rename is atomic within one file system."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write_to(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_safetensors(path: Path, arrays: Arrays, metadata: Metadata) -> None:
    from safetensors.numpy import save_file

    # save_file copies raw memory, so arrays must be C-contiguous: write() saw to that.
    save_file(arrays, path, metadata=metadata)


def _write_npz(path: Path, arrays: Arrays, metadata: Metadata) -> None:
    foreign = {key: a.dtype.name for key, a in arrays.items() if a.dtype.kind not in "biufc"}
    raw = {key: a.view(f"u{a.itemsize}") if key in foreign else a for key, a in arrays.items()}
    notes = {NPZ_METADATA: json.dumps(metadata), NPZ_DTYPES: json.dumps(foreign)}
    with open(path, "wb") as file:  # an open file: savez would add a suffix to a name
        np.savez(file, **raw, **{key: np.array(text) for key, text in notes.items()})


def _read_safetensors(path: Path) -> tuple[Arrays, Metadata]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(_damaged(path, "safetensors", error)) from None


def _read_npz(path: Path) -> tuple[Arrays, Metadata]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays: dict[str, Any] = {key: file[key] for key in file.files}
        metadata = json.loads(str(arrays.pop(NPZ_METADATA, "{}")))
        dtypes = json.loads(str(arrays.pop(NPZ_DTYPES, "{}")))
    except Exception as error:  # zipfile, zlib, pickle refusal: numpy has no error of its own
        raise UserError(_damaged(path, "npz", error)) from None
    for key, name in dtypes.items():
        arrays[key] = arrays[key].view(getattr(ml_dtypes, name))
    return arrays, metadata


def _check_readable(path: Path) -> None:
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the weights file inside it.")
    if not path.is_file():
        raise UserError(f"{path}: no such file.")
    if not os.access(path, os.R_OK):
        raise UserError(f"{path} cannot be read: permission denied.")


def _damaged(path: Path, kind: str, error: Exception) -> str:
    """What is wrong with a file that does not parse as ``kind``, told by its first bytes."""
    with open(path, "rb") as file:
        head = file.read(40)
    if head.startswith(b"version https://git-lfs"):
        return f"{path} is a Git LFS pointer, not the weights; run `git lfs pull` to fetch them."
    if kind == "safetensors" and head.startswith((b"\x80", b"PK\x03\x04")):
        return (
            f"{path} is not safetensors but a pickle or zip file, as torch.save writes; "
            "rename it to .pth if it comes from a source you trust."
        )
    size = path.stat().st_size
    return f"{path} ({size} bytes) is no whole {kind} file: {error}. Copy or download it again."
