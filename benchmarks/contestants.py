"""One contestant of `step.py` in a process of its own, on one core and one thread.

Its task: {"name": "ours/float32/unrolled", "size": "tiny", "batch": 8, "core": 1}; see `rounds.py`.
"""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rounds import serve

# Width, depth, heads of encoder and decoder; patch 16 of 224 x 224 pixels, three quarters hidden.
# tiny and small have light decoders, base is MAE's ViT-B/16 (He et al. 2022).
SIZES: dict[str, dict[str, Any]] = {
    "toy": {"image": 32, "patch": 8, "encoder": (32, 1, 2), "decoder": (16, 1, 2)},
    "tiny": {"image": 224, "patch": 16, "encoder": (192, 12, 3), "decoder": (128, 4, 4)},
    "small": {"image": 224, "patch": 16, "encoder": (384, 12, 6), "decoder": (256, 4, 8)},
    "base": {"image": 224, "patch": 16, "encoder": (768, 12, 12), "decoder": (512, 8, 16)},
}
BATCHES = {"toy": 4, "tiny": 8, "small": 16, "base": 8}
MASK_RATIO = 0.75
# The last part of a name of ours -> entries of config.model. "all": the encoder sees every patch
# but one, which the loss needs; the decoder's work is the same but for its last layer.
VARIANTS: dict[str, dict[str, Any]] = {
    "unrolled": {"scan": "off"},
    "scan": {"scan": "on"},
    "plain": {"scan": "off", "lean": False},
    "all": {"scan": "off", "mask_ratio": 0.004},
}
DTYPES = ("float32", "bfloat16")
OURS = tuple(f"ours/{dtype}/{variant}" for dtype in DTYPES for variant in VARIANTS)
# MAE as its official code goes, in plain jnp: the reference of the tests.
TEXTBOOK = ("textbook/float32",)
THEIRS = ("hf/float32", "hf/bfloat16")
# AdamW of MAE's pretraining; the rate does not matter for the time.
LR, BETAS, WEIGHT_DECAY = 1.5e-4, (0.9, 0.95), 0.05
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WARM_UP_STEPS = 2

# (number of steps) -> None, back only when all of them are done
Run = Callable[[int], None]


def ours(name: str, size: dict[str, Any], batch_size: int) -> tuple[Run, dict[str, str]]:
    """The whole train step of this project: forward, backward, AdamW; or that of the textbook."""
    import jax
    import jaxlib
    import numpy as np

    import maskjax
    from maskjax.train import host_memory
    from maskjax.train.state import create_state
    from maskjax.train.step import make_train_step

    host_memory.keep_freed_memory()  # as `maskjax train` does
    image = np.random.default_rng(0).integers(
        0, 256, (batch_size, size["image"], size["image"], 3), np.uint8
    )
    positions = np.stack([np.zeros(batch_size), np.arange(batch_size)], 1).astype(np.uint32)
    batch = jax.device_put({"image": image, "position": positions})
    method = our_method(name, size, batch)
    optimizers = {"main": _our_optimizer(batch_size)}
    step = make_train_step(method, optimizers)
    state = jax.jit(lambda key: create_state(method, optimizers, key, batch))(jax.random.key(0))

    def run(steps: int):
        nonlocal state
        for _ in range(steps):
            state, _ = step(state, batch)
        jax.block_until_ready(state)

    versions = {"maskjax": maskjax.__version__, "jax": jax.__version__}
    return run, versions | {"jaxlib": jaxlib.__version__}


def our_method(name: str, size: dict[str, Any], batch: Any):
    """The method of a contestant, for batches of these shapes."""
    from maskjax.method import build_method

    who, dtype, *variant = name.split("/")
    widths = ("dim", "depth", "heads")
    entries = {
        "image_size": size["image"],
        "patch_size": size["patch"],
        "encoder": dict(zip(widths, size["encoder"], strict=True)),
        "decoder": dict(zip(widths, size["decoder"], strict=True)),
        "mask_ratio": MASK_RATIO,
        "norm_pix": True,
        "dtype": dtype,
        **VARIANTS[variant[0] if variant else "plain"],
    }
    method = build_method("mim.mae", entries, batch)
    return method if who == "ours" else _textbook(method, size)


def _textbook(method: Any, size: dict[str, Any]):
    """The method with the loss of `tests/textbook.py`, on the same parameters."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    import jax.numpy as jnp
    import textbook

    from maskjax.losses import Term
    from maskjax.method import Phase

    patch, num = (size["patch"],) * 2, (size["image"] // size["patch"]) ** 2

    def loss(params, extra, batch, draws, step, static):
        mean, std = jnp.asarray(IMAGENET[0]), jnp.asarray(IMAGENET[1])
        image = (batch["image"] / 255 - mean) / std
        noise = draws.uniform("mask", (num,))
        value, *_ = textbook.mae(params, image, noise, patch, round(num * (1 - MASK_RATIO)), True)
        return {"reconstruction": Term(value, 1.0)}, {}

    return dataclasses.replace(method, phases=(Phase(loss),))


def _our_optimizer(batch_size: int):
    from types import SimpleNamespace

    from maskjax.train.optim import build_optimizer

    b1, b2 = BETAS
    cfg = SimpleNamespace(
        lr=LR, b1=b1, b2=b2, weight_decay=WEIGHT_DECAY, schedule="constant", warmup_steps=0
    )
    run = {"total_steps": 1000, "steps_per_epoch": 100, "global_batch": batch_size}
    return build_optimizer(cfg, **run)[0]


def hugging_face(name: str, size: dict[str, Any], batch_size: int) -> tuple[Run, dict[str, str]]:
    """ViTMAEForPreTraining in eager mode (bfloat16: autocast): forward, backward, AdamW."""
    import torch
    import transformers

    from maskjax.train import host_memory

    host_memory.keep_freed_memory()  # so that the allocator makes no difference
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = transformers.ViTMAEForPreTraining(_hf_config(size)).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    # The fused form is what transformers' own Trainer takes by default.
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=BETAS, fused=True)
    images = torch.randn(batch_size, 3, size["image"], size["image"])
    mixed = name.endswith("bfloat16")

    def run(steps: int):
        for _ in range(steps):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                loss = model(images).loss
            loss.backward()
            optimizer.step()

    return run, {"torch": torch.__version__, "transformers": transformers.__version__}


def _hf_config(size: dict[str, Any]):
    import transformers

    (dim, depth, heads), (width, layers, decoder_heads) = size["encoder"], size["decoder"]
    return transformers.ViTMAEConfig(
        image_size=size["image"],
        patch_size=size["patch"],
        hidden_size=dim,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=4 * dim,
        decoder_hidden_size=width,
        decoder_num_hidden_layers=layers,
        decoder_num_attention_heads=decoder_heads,
        decoder_intermediate_size=4 * width,
        layer_norm_eps=1e-6,
        mask_ratio=MASK_RATIO,
        norm_pix_loss=True,
    )


def prepare(task: dict[str, Any]) -> tuple[Run, dict[str, str]]:
    """A warm contestant."""
    make = ours if task["name"] in OURS + TEXTBOOK else hugging_face
    run, versions = make(task["name"], SIZES[task["size"]], task["batch"])
    run(WARM_UP_STEPS)
    return run, versions


if __name__ == "__main__":
    serve(prepare)
