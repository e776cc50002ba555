r"""Probes: a head trained on a frozen encoder, by the protocols of the papers.

    maskjax train --config=configs/supervised/probe.py:mae_linear_b16 --workdir=DIR \
      --config.init_from=runs/mae --config.data.path=folder:/data/imagenet

The protocols are data, in `maskjax/evaluate/protocols.py`, where each says its source; images are
cropped (scale 0.08 .. 1, bicubic) and flipped, nothing else (MAE code). `maskjax evaluate
--evaluators=mae_probe` trains the same head on cached features in seconds, without augmentation.
Expected on ImageNet-1k from the official weights (sheets of the codes): mae_linear_b16 67.8 %,
mae_linear_l16 76.0 %, mae_linear_h14 77.2 %; cae_attentive_b16 77.2 % from CAE's of 1600 epochs.
"""

import functools

from maskjax.configs import common

from maskjax.evaluate.protocols import PROTOCOLS


def get_config(arg: str = "mae_linear_b16"):
    """The experiment `arg`: tiny, demo, or PROTOCOL_SIZE, such as mae_linear_b16 or mlp_l16."""
    config = common.experiment("supervised.classify")
    config.model.freeze = True
    config.model.mixup = config.model.cutmix = config.model.smoothing = 0.0
    config.model.drop_path = 0.0
    config.evaluate.evaluators = ("classify",)
    variants = {"tiny": tiny, "demo": demo}
    for name in ("mae_linear", "maskalign_linear", "hpm_linear", "cae_attentive", "mlp"):
        large = "mae_linear_large" if name == "mae_linear" else name
        variants[f"{name}_b16"] = functools.partial(imagenet, size="b", patch=16, name=name)
        variants[f"{name}_l16"] = functools.partial(imagenet, size="l", patch=16, name=large)
        variants[f"{name}_h14"] = functools.partial(imagenet, size="h", patch=14, name=large)
    common.variant(arg, variants)(config)
    return config


def tiny(config):
    """Seconds on a CPU: a linear probe of random features, for tests (ours)."""
    common.tiny(config)
    protocol(config, "mae_linear")
    config.model.num_classes = 10
    config.model.encoder = {"dim": 32, "depth": 2, "heads": 2, "mlp_ratio": 4.0}
    config.data.global_batch = 64
    config.model.pool = "mean"
    config.optim.base_lr, config.optim.lr = 0.0, 0.5
    config.optim.trust_coefficient = 0.1  # a step of LARS is lr x this of a weight's size


def demo(config):
    """A minute on two CPU cores: MAE's linear probe of `mim/mae:demo` (ours)."""
    common.demo(config, steps=1000)
    protocol(config, "mae_linear")
    config.model.num_classes = 18
    config.model.encoder = {"dim": 64, "depth": 3, "heads": 4, "mlp_ratio": 4.0}
    config.model.pool = "mean"
    config.optim.lr, config.optim.base_lr = PROTOCOLS["mae_linear"].lr, 0.0


def imagenet(config, size: str, patch: int, name: str):
    """A protocol at its own batch and length."""
    common.imagenet(config, global_batch=PROTOCOLS[name].batch, epochs=PROTOCOLS[name].epochs)
    protocol(config, name)
    config.model.encoder = common.transformer(size)
    config.model.patch_size = (patch, patch)
    config.model.dtype = "bfloat16"  # ours
    config.data.crop_scale = (0.08, 1.0)  # MAE code
    config.optim.warmup_epochs = float(PROTOCOLS[name].warmup)
    config.optim.warmup_steps = 0


def protocol(config, name: str):
    """Head and optimizer of a protocol."""
    chosen = PROTOCOLS[name]
    config.evaluate.protocol = chosen.name
    config.model.pool = chosen.pool
    config.model.batch_norm = chosen.batch_norm
    config.model.hidden = chosen.hidden
    config.model.head_std = chosen.std
    config.optim.name = chosen.optimizer
    config.optim.lr, config.optim.base_lr = 0.0, chosen.base_lr
    config.optim.weight_decay = chosen.weight_decay
