r"""MixedAE pretraining (Chen et al., CVPR 2023).

    maskjax train --config=configs/mim/mixedae.py:b16 --workdir=DIR \
      --config.data.path=folder:/data/imagenet

Sources: the official code is not public. "paper" is the paper's abstract or introduction, "memory"
what is remembered of its method section, and everything else is MAE's recipe or ours. Expected at
scale (paper, against MAE): fine-tuning on ImageNet-1k +0.3 %, ADE20K +1.7 mIoU.
"""

from maskjax.configs import common


def get_config(arg: str = "b16"):
    """The experiment `arg`: tiny, demo, b16 or l16."""
    config = common.experiment("mim.mixedae")
    config.evaluate.evaluators += ("groups",)
    config.optim.name = "adamw"
    config.optim.b1 = 0.9  # MAE
    config.optim.b2 = 0.95  # MAE
    config.optim.weight_decay = 0.05  # MAE; not on biases and norms
    config.model.group = 4  # paper: the cost of MAE at ratio 0.75
    config.model.temperature = 0.25  # memory
    config.model.contrastive = 0.1  # memory
    config.model.norm_pix = True  # MAE
    variants = {"tiny": tiny, "demo": demo, "b16": b16, "l16": l16}
    common.variant(arg, variants)(config)
    return config


def tiny(config):
    """Seconds on a CPU: for tests and a first look (ours)."""
    common.tiny(config)
    config.model.group = 2
    config.model.encoder = {"dim": 32, "depth": 2, "heads": 2, "mlp_ratio": 4.0}
    config.model.decoder = {"dim": 16, "depth": 1, "heads": 2, "mlp_ratio": 4.0}


def demo(config):
    """As MAE's demo (ours)."""
    common.demo(config)
    config.model.encoder = {"dim": 64, "depth": 3, "heads": 4, "mlp_ratio": 4.0}
    config.model.decoder = {"dim": 32, "depth": 1, "heads": 4, "mlp_ratio": 4.0}


def b16(config):
    """ViT-B/16, 224 px."""
    pretrain(config, "b")


def l16(config):
    """ViT-L/16, 224 px."""
    pretrain(config, "l")


def pretrain(config, encoder: str):
    """MAE's recipe; the batch counts source images."""
    common.imagenet(config, global_batch=4096, epochs=800)  # MAE; paper: also 300 and 1600
    config.model.encoder = common.transformer(encoder)
    config.model.decoder = {"dim": 512, "depth": 8, "heads": 16, "mlp_ratio": 4.0}  # MAE
    config.model.dtype = "bfloat16"  # ours
    config.optim.base_lr = 1.5e-4  # MAE; times batch / 256
    config.optim.warmup_epochs = 40.0  # MAE
