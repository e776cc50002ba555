"""One contestant of `step.py` in a process of its own, on one core and one thread.

Its task: {"name": "ours/float32/unrolled", "size": "tiny", "batch": 8, "core": 1}; see `rounds.py`.
"""

from collections.abc import Callable
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
OURS = (
    "ours/float32/unrolled",
    "ours/float32/scan",
    "ours/bfloat16/unrolled",
    "ours/bfloat16/scan",
)
THEIRS = ("hf/float32", "hf/bfloat16")
MASK_RATIO = 0.75
# AdamW of MAE's pretraining; the rate does not matter for the time.
LR, BETAS, WEIGHT_DECAY = 1.5e-4, (0.9, 0.95), 0.05
WARM_UP_STEPS = 2

# (number of steps) -> None, back only when all of them are done
Run = Callable[[int], None]


def ours(name: str, size: dict[str, Any], batch_size: int) -> tuple[Run, dict[str, str]]:
    """The whole train step of this project: forward, backward, AdamW."""
    import jax
    import jaxlib
    import numpy as np

    import maskjax
    from maskjax.train.state import create_state
    from maskjax.train.step import make_train_step

    _, dtype, layers = name.split("/")
    image = np.random.default_rng(0).integers(
        0, 256, (batch_size, size["image"], size["image"], 3), np.uint8
    )
    positions = np.stack([np.zeros(batch_size), np.arange(batch_size)], 1).astype(np.uint32)
    batch = jax.device_put({"image": image, "position": positions})
    method = _our_method(size, dtype, "on" if layers == "scan" else "off", batch)
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


def _our_method(size: dict[str, Any], dtype: str, scan: str, batch: Any):
    from maskjax.method import build_method

    widths = ("dim", "depth", "heads")
    entries = {
        "image_size": size["image"],
        "patch_size": size["patch"],
        "encoder": dict(zip(widths, size["encoder"], strict=True)),
        "decoder": dict(zip(widths, size["decoder"], strict=True)),
        "mask_ratio": MASK_RATIO,
        "norm_pix": True,
        "dtype": dtype,
        "scan": scan,
    }
    return build_method("mim.mae", entries, batch)


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
    make = ours if task["name"] in OURS else hugging_face
    run, versions = make(task["name"], SIZES[task["size"]], task["batch"])
    run(WARM_UP_STEPS)
    return run, versions


if __name__ == "__main__":
    serve(prepare)
