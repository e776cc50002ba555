r"""HPM pretraining: hard patches mining (Wang et al., CVPR 2023; arXiv 2312.13714).

    maskjax train --config=configs/mim/hpm.py:b16 --workdir=DIR \
      --config.data.path=folder:/data/imagenet

Sources: "code" is the official repository's scripts; what is marked "ours" no source says. Expected
at scale, fine-tuned on ImageNet-1k (official README): b16 83.0 % after 200 epochs, 84.2 % after
800; l16 85.8 % after 800.
"""

from maskjax.configs import common


def get_config(arg: str = "b16"):
    """The experiment `arg`: tiny, demo, b16 or l16."""
    config = common.experiment("mim.hpm")
    config.evaluate.evaluators += ("difficulty",)
    config.optim.name = "adamw"
    config.optim.b1 = 0.9  # code
    config.optim.b2 = 0.95  # code
    config.optim.weight_decay = 0.05  # code; not on biases and norms
    config.optim.clip_norm = 5.0  # code
    config.model.mask_ratio = 0.75  # code
    config.model.norm_pix = False  # code: all shipped scripts
    variants = {"tiny": tiny, "demo": demo, "b16": b16, "l16": l16}
    common.variant(arg, variants)(config)
    return config


def tiny(config):
    """Seconds on a CPU: for tests and a first look (ours)."""
    common.tiny(config)
    config.model.mask_ratio = 0.5
    config.model.encoder = {"dim": 32, "depth": 2, "heads": 2, "mlp_ratio": 4.0}
    config.model.decoder = {"dim": 16, "depth": 1, "heads": 2, "mlp_ratio": 4.0}
    config.model.teacher_epochs = 1


def demo(config):
    """As MAE's demo; patch-normalised targets, which matter in short runs (ours)."""
    common.demo(config)
    config.model.norm_pix = True
    config.model.encoder = {"dim": 64, "depth": 3, "heads": 4, "mlp_ratio": 4.0}
    config.model.decoder = {"dim": 32, "depth": 1, "heads": 4, "mlp_ratio": 4.0}
    config.model.teacher_decay = (0.99, 0.999)  # a run of minutes has no time for 0.9999
    config.model.teacher_epochs = 10


def b16(config):
    """ViT-B/16, 224 px."""
    pretrain(config, "b")


def l16(config):
    """ViT-L/16, 224 px."""
    pretrain(config, "l")


def pretrain(config, encoder: str):
    """The official recipe."""
    common.imagenet(config, global_batch=2048, epochs=200)  # code: 32 x 8 x 8; also 800
    config.model.encoder = common.transformer(encoder)
    config.model.decoder = {"dim": 512, "depth": 8, "heads": 16, "mlp_ratio": 4.0}  # code
    config.model.dtype = "bfloat16"  # ours; the code runs fp16 autocast
    config.optim.base_lr = 1.5e-4  # code; times batch / 256
    config.optim.warmup_epochs = 40.0  # code
