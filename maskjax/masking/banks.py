"""Banks of coloured noise in files: `maskjax noise-bank` writes them, `load_bank` reads them.

A file is an npz whose first array is the bank, float32[slices, H, W] in 0..1, so official ColorMAE
reads it as well; "about" holds, as JSON, what it was made with.
"""

import json
import os
from collections.abc import Sequence
from typing import Any, BinaryIO

import jax
import numpy as np
from jax import Array

from maskjax.masking.noise_filters import Color, make_bank

BANK, ABOUT = "bank", "about"


def bank_slice(
    seed: int,
    number: int | Array,
    color: Color = "green",
    *,
    size: tuple[int, int] = (256, 256),
    sigmas: Sequence[float] | None = None,
) -> Array:
    """One slice of the bank of a seed: it depends on the seed and its number alone.

    So a bank of more slices begins with the slices of a smaller one.

    Args:
        seed: 0..2**31 - 1.
        number: of the slice, from 0; may be traced.
        color: see `maskjax.masking.colors`.
        size: (rows, columns).
        sigmas: blur widths in patches; default `noise_filters.SIGMAS[color]`.

    Returns:
        float32[rows, columns] in [0, 1].

    Raises:
        ValueError: for an unknown color or unfit sigmas.
    """
    key = jax.random.fold_in(jax.random.key(seed), number)
    return make_bank(key, color, shape=(1, *size), sigmas=sigmas)[0]


def save_bank(file: str | os.PathLike | BinaryIO, bank: np.ndarray, **about: Any) -> None:
    """Writes a bank float[slices, H, W] in 0..1 as npz.

    Raises:
        ValueError: if it is no bank, see `load_bank`.
    """
    np.savez(file, **{BANK: _checked(bank, "the bank"), ABOUT: np.array(json.dumps(about))})


def load_bank(path: str | os.PathLike) -> np.ndarray:
    """Reads a bank for `colored_from_bank`: float32[slices, H, W].

    Takes the files of `maskjax noise-bank` and those of official ColorMAE (the first array of an
    npz), or a .npy file. Put it on the device once and pass it to the step as an argument.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no bank: not [slices, H, W], empty, not finite or negative.
    """
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.lib.npyio.NpzFile):
            with found:
                found = found[BANK if BANK in found.files else found.files[0]]
    except (ValueError, EOFError, IndexError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path} is no .npz or .npy file with a bank of noise: {error}") from None
    return _checked(found, str(path))


def _checked(bank: np.ndarray, name: str) -> np.ndarray:
    bank = np.asarray(bank)
    if bank.ndim != 3 or not bank.size or bank.dtype.kind not in "fiu":
        found = f"{bank.dtype}{list(bank.shape)}"
        raise ValueError(f"{name}: a bank has numbers [slices, rows, columns], got {found}")
    bank = bank.astype(np.float32, copy=False)
    # Windows are divided by their largest value: a negative one would reverse the ranks.
    if not np.isfinite(bank).all() or bank.min() < 0:
        raise ValueError(f"{name}: a bank has finite values >= 0; stretch it to 0..1")
    return bank
