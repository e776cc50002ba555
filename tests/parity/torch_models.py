"""Random models of PyTorch libraries, and their activations beside those of `TeacherViT`."""

import golden
import jax
import jax.numpy as jnp
import numpy as np
import torch

from maskjax.nn.teacher_vit import TeacherViT, to_patches


@torch.no_grad()
def randomize(model, spread: float = 0.05):
    """Every parameter moved, so that nothing agrees by being zero or one."""
    for parameter in model.parameters():
        parameter.add_(spread * torch.randn_like(parameter))
    return model.eval()


def images_for(geometry, batch: int = 2) -> np.ndarray:
    """float32[B, (T,) C, H, W]."""
    frames = (geometry.frames,) if getattr(geometry, "frames", 0) else ()
    shape = (batch, *frames, geometry.channels, *geometry.image_size)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def ours(geometry, params, images: np.ndarray, taps=("input", "block", "attention/-1")):
    """(outputs, taps) of our model on channels-first images."""
    model = TeacherViT(geometry)
    last = jnp.moveaxis(jnp.asarray(images), -3, -1)
    run = lambda p, x: model.apply({"params": p}, to_patches(x, geometry), taps=taps)  # noqa: E731
    return jax.jit(run)(params, last)


def assert_close(key, found, expected):
    """Within 1e-4 of the spread."""
    row = golden.compare(key, np.asarray(found), np.asarray(expected.detach()))
    assert row.ok, row


def blocks_of(model, path: str, images) -> list[torch.Tensor]:
    """Outputs of the blocks at `path` while `model` runs on the images."""
    seen, hooks = [], []
    for block in model.get_submodule(path):
        keep = lambda module, given, out: seen.append(out[0] if isinstance(out, tuple) else out)  # noqa: E731
        hooks.append(block.register_forward_hook(keep))
    with torch.no_grad():
        model(torch.from_numpy(images))
    for hook in hooks:
        hook.remove()
    return seen
