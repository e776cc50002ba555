"""Makes timm and transformers importable where torchvision's compiled part does not fit torch.

Package indexes serve torchvision built for CUDA; beside a CPU build of torch its library cannot be
loaded, and `import torchvision` then fails for want of the operators it declares shapes for. Both
libraries need only its Python parts here, so the two operators are declared, without a body.
"""

import importlib.util

import pytest


def _declare_operators() -> object | None:
    if not importlib.util.find_spec("torch") or not importlib.util.find_spec("torchvision"):
        return None
    import torch

    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None


LIBRARY = _declare_operators()  # kept alive: the operators go with it


@pytest.fixture(autouse=True)
def torch_seed():
    """The same random weights in every order of the tests."""
    torch = pytest.importorskip("torch", reason="live parity needs PyTorch: `make test-torch`")
    torch.manual_seed(0)
