r"""MAE pretraining (He et al. 2022).

    maskjax train --config=configs/mim/mae.py:b16 --workdir=DIR \
      --config.data.path=folder:/data/imagenet

Sources: "code" is the official PyTorch repository's pretraining script and README, "paper" is the
paper; what neither says is marked as ours. Expected at scale, fine-tuned on ImageNet-1k (paper,
1600 epochs): b16 83.6 %, l16 85.9 %, h14 86.9 %. The demo's figures are in the README.
"""

from maskjax.configs import common


def get_config(arg: str = "b16"):
    """The experiment `arg`: tiny, demo, teacher, b16, l16 or h14."""
    config = common.experiment("mim.mae")
    config.optim.name = "adamw"
    config.optim.b1 = 0.9  # code, paper
    config.optim.b2 = 0.95  # code, paper
    config.optim.weight_decay = 0.05  # code, paper; not on biases and norms
    config.model.mask_ratio = 0.75  # code, paper
    config.model.norm_pix = True  # code (the released models), paper's best
    variants = {"tiny": tiny, "demo": demo, "teacher": teacher}
    variants |= {"b16": b16, "l16": l16, "h14": h14}
    common.variant(arg, variants)(config)
    return config


def tiny(config):
    """Seconds on a CPU: for tests and a first look (ours)."""
    common.tiny(config)
    config.model.mask_ratio = 0.5
    config.model.encoder = {"dim": 32, "depth": 2, "heads": 2, "mlp_ratio": 4.0}
    config.model.decoder = {"dim": 16, "depth": 1, "heads": 2, "mlp_ratio": 4.0}


def demo(config):
    """About five minutes on two CPU cores, on photographs that come with the package (ours)."""
    common.demo(config)
    config.model.encoder = {"dim": 64, "depth": 3, "heads": 4, "mlp_ratio": 4.0}
    config.model.decoder = {"dim": 32, "depth": 1, "heads": 4, "mlp_ratio": 4.0}


def teacher(config):
    """The demo, wider and deeper: the teacher of the demos in configs/distill (ours)."""
    demo(config)
    config.model.encoder = dict(common.TEACHER_SIZE)


def b16(config):
    """ViT-B/16, 224 px."""
    pretrain(config, "b", patch=16)


def l16(config):
    """ViT-L/16, 224 px."""
    pretrain(config, "l", patch=16)


def h14(config):
    """ViT-H/14, 224 px."""
    pretrain(config, "h", patch=14)


def pretrain(config, encoder: str, patch: int):
    """The official recipe at any size."""
    # 800 epochs is the code's default; the released models ran 1600 (code's README).
    common.imagenet(config, global_batch=4096, epochs=800)
    config.model.encoder = common.transformer(encoder)
    config.model.decoder = {"dim": 512, "depth": 8, "heads": 16, "mlp_ratio": 4.0}  # code
    config.model.patch_size = (patch, patch)
    config.model.dtype = "bfloat16"  # ours; the code runs fp16 autocast
    config.optim.base_lr = 1.5e-4  # code, paper; times batch / 256
    config.optim.warmup_epochs = 40.0  # code, paper
