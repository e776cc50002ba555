r"""ColorMAE pretraining (Hinojosa et al., ECCV 2024).

    maskjax train --config=configs/mim/colormae.py:b16 --workdir=DIR \
      --config.data.path=folder:/data/imagenet

Sources: "code" is the official repository (on mmpretrain) and mmpretrain's MAE recipe; what is
marked "ours" no source says; the filter widths are ours, since those of the published noise are not
public. Expected at scale, fine-tuned on ImageNet-1k (official README, green): b16 83.01 % after 300
epochs, 83.61 % after 800, 83.77 % after 1600.
"""

from maskjax.configs import common


def get_config(arg: str = "b16"):
    """The experiment `arg`: tiny, demo, b16 or l16."""
    config = common.experiment("mim.colormae")
    config.optim.name = "adamw"
    config.optim.b1 = 0.9  # code
    config.optim.b2 = 0.95  # code
    config.optim.weight_decay = 0.05  # code; not on norms, biases and tokens
    config.model.color = "green"  # code, paper
    config.model.mask_ratio = 0.75  # code
    config.model.norm_pix = True  # code
    variants = {"tiny": tiny, "demo": demo, "b16": b16, "l16": l16}
    common.variant(arg, variants)(config)
    return config


def tiny(config):
    """Seconds on a CPU: for tests and a first look (ours)."""
    common.tiny(config)
    config.model.mask_ratio = 0.5
    config.model.encoder = {"dim": 32, "depth": 2, "heads": 2, "mlp_ratio": 4.0}
    config.model.decoder = {"dim": 16, "depth": 1, "heads": 2, "mlp_ratio": 4.0}


def demo(config):
    """About five minutes on two CPU cores, as MAE's (ours)."""
    common.demo(config)
    config.model.encoder = {"dim": 64, "depth": 3, "heads": 4, "mlp_ratio": 4.0}
    config.model.decoder = {"dim": 32, "depth": 1, "heads": 4, "mlp_ratio": 4.0}


def b16(config):
    """ViT-B/16, 224 px."""
    pretrain(config, "b")


def l16(config):
    """ViT-L/16, 224 px: the B recipe (ours; no L model was published)."""
    pretrain(config, "l")


def pretrain(config, encoder: str):
    """The official recipe."""
    common.imagenet(config, global_batch=4096, epochs=300)  # code; also 800 and 1600
    config.model.encoder = common.transformer(encoder)
    config.model.decoder = {"dim": 512, "depth": 8, "heads": 16, "mlp_ratio": 4.0}  # code
    config.model.dtype = "bfloat16"  # ours; the code runs fp16 autocast
    config.optim.base_lr = 1.5e-4  # code: 2.4e-3 at batch 4096
    config.optim.warmup_epochs = 40.0  # code (there it starts from 1e-4 of the rate)
    config.optim.groups = ((r"(cls_token|mask_token)$", "no_decay"),)  # code
