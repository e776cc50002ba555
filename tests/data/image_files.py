"""Helpers of the data tests: encoded pictures and files."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def encode(pixels: np.ndarray, kind: str = "PNG", **options) -> bytes:
    """uint8[H, W, C] or uint8[H, W] -> the bytes of a file."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, kind, **options)
    return data.getvalue()


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
