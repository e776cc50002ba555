r"""CroCo and CroCo v2 (Weinzaepfel et al. 2022, 2023): cross-view completion.

    maskjax train --config=configs/views/croco.py:v1_b16 --workdir=DIR \
      --config.data.path=pairs:/data/pairs.csv

"code" is the official repository, "paper" the papers, "memory" unchecked; what neither says is
marked as ours. The pairs of the papers (1.8 million rendered by Habitat; v2 adds real ones) are not
public as one download: any `pairs:` or `stereo` data will do. Expected at scale (memory): v1, depth
on NYUv2, delta1 about 86 %.
"""

from maskjax.configs import common


def get_config(arg: str = "v1_b16"):
    """The experiment `arg`: tiny, tiny_v2, demo, v1_b16, v2_b16 or v2_l16."""
    config = common.experiment("views.croco")
    config.optim.name = "adamw"
    config.optim.b1 = 0.9  # code
    config.optim.b2 = 0.95  # code
    config.optim.weight_decay = 0.05  # code; not on biases and norms
    config.model.mask_ratio = 0.9  # code, paper
    variants = {
        "tiny": tiny,
        "tiny_v2": tiny_v2,
        "demo": demo,
        "v1_b16": v1_b16,
        "v2_b16": v2_b16,
        "v2_l16": v2_l16,
    }
    common.variant(arg, variants)(config)
    return config


def tiny(config):
    """Seconds on a CPU: crops of one real stereo pair (ours)."""
    common.tiny(config)
    pairs(config, size=32)
    config.model.patch_size = (8, 8)
    config.model.mask_ratio = 0.75
    config.model.encoder = {"dim": 32, "depth": 2, "heads": 2, "mlp_ratio": 2.0}
    config.model.decoder = {"dim": 16, "depth": 1, "heads": 2, "mlp_ratio": 2.0}


def tiny_v2(config):
    """The same with rotary positions (ours)."""
    tiny(config)
    config.model.rotary = 100  # code


def demo(config):
    """A few minutes on two CPU cores, on crops of one real stereo pair (ours)."""
    common.demo(config, steps=2000)
    pairs(config, size=64)
    config.model.patch_size = (8, 8)
    config.model.mask_ratio = 0.9
    config.model.encoder = {"dim": 96, "depth": 3, "heads": 4, "mlp_ratio": 4.0}
    config.model.decoder = {"dim": 64, "depth": 2, "heads": 4, "mlp_ratio": 4.0}


def pairs(config, size: int):
    """Crops of the stereo pair that comes with scikit-image, both views cut alike."""
    common.embedded(config, f"stereo:{size}", image_size=size, channels=3)
    config.evaluate.evaluators = ("reconstruction", "held_out")  # there are no labels


def v1_b16(config):
    """ViT-B/16 and the small decoder, sin-cos positions: 400 epochs of a plan for 800."""
    pretrain(config, "b", {"dim": 512, "depth": 8, "heads": 16, "mlp_ratio": 4.0})
    config.train.epochs = 400  # code
    config.optim.plan_epochs = 800.0  # code
    config.optim.warmup_epochs = 40.0  # code


def v2_b16(config):
    """ViT-B/16 and the base decoder, rotary positions."""
    second(config, "b")


def v2_l16(config):
    """ViT-L/16 and the base decoder, rotary positions."""
    second(config, "l")


def second(config, encoder: str):
    """What v2 changes: 125 epochs of a plan for 250."""
    pretrain(config, encoder, {"dim": 768, "depth": 12, "heads": 12, "mlp_ratio": 4.0})
    config.model.rotary = 100  # code
    config.data.global_batch = 512  # code: 64 on each of 8 GPUs
    config.train.epochs = 125  # code
    config.optim.plan_epochs = 250.0  # code
    config.optim.warmup_epochs = 12.0  # code


def pretrain(config, encoder: str, decoder: dict):
    """What both versions share."""
    config.data.path = "pairs:pairs.csv"
    config.data.train_split = "train"
    config.data.global_batch = 256  # code: 64 on each of 4 GPUs
    config.data.crop_scale = (
        0.76,
        0.77,
    )  # ours: about 224 of 256 pixels, as the code's random crop
    config.data.crop_ratio = (1.0, 1.0)
    config.data.flip = False  # code
    config.data.color_jitter = (0.4, 0.4, 0.4, 0.0)  # code: 0.6 to 1.4
    config.data.workers = 8
    config.evaluate.evaluators = ("reconstruction", "held_out")
    config.model.encoder = common.transformer(encoder)
    config.model.decoder = decoder
    config.model.dtype = "bfloat16"  # ours; v1's code runs fp16 autocast, v2's float32
    config.optim.base_lr = 1.5e-4  # code; times batch / 256
