"""Read PyTorch's own files, which are pickles, by torch's restricted unpickler and no other way."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from maskjax.errors import UserError

# Training scripts wrap the state dict: official MAE files are {"model": ...}.
WRAPPERS = ("model", "state_dict", "module")


def read_pickle(path: Path) -> dict[str, np.ndarray]:
    """Read a state dict from .pth, .pt or .bin with ``torch.load(weights_only=True)``.

    A state dict under the key "model", "state_dict" or "module" is unwrapped; what lies beside it
    (optimizer state, epoch, arguments) is left out.

    Raises:
        UserError: torch is not installed, the file is damaged or holds more than plain data, or it
            holds no tensors.
    """
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path} is a PyTorch pickle, which only torch can read: install torch "
            "(pip install 'maskjax[torch]'), or convert the file to safetensors where torch is, "
            "with safetensors.torch.save_file(torch.load(FILE, weights_only=True)['model'], OUT)."
        ) from None
    try:
        # The arguments that training scripts save beside the weights are plain attributes.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling and zip errors of many types
        if "TorchScript" in str(error):
            raise UserError(
                f"{path} is a TorchScript program, as OpenAI's CLIP files are, not plain weights; "
                "save its state dict: torch.save(torch.jit.load(FILE).state_dict(), OUT)."
            ) from None
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{path} cannot be read as plain weights: {reason} It is damaged, or it holds Python "
            "objects, which are refused because loading them can run code. Copy it again, or save "
            "only the state dict of the model where you trust the file."
        ) from None
    return _tensors(path, content)


def _tensors(path: Path, content: Any) -> dict[str, np.ndarray]:
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not a dict of tensors.")
    arrays = {str(key): _numpy(value) for key, value in content.items() if hasattr(value, "numpy")}
    if not arrays:
        keys = ", ".join(map(str, list(content)[:5]))
        raise UserError(f"{path} holds no tensors; its keys are: {keys or 'none'}.")
    return arrays


def _numpy(tensor: Any) -> np.ndarray:
    """A numpy array of the same bits; numpy itself has no bfloat16."""
    import torch

    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()
