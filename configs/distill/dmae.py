r"""DMAE: distillation of a frozen MAE from visible patches (Bai et al., CVPR 2023).

    maskjax train --config=configs/distill/dmae.py:b16 --workdir=DIR \
      --config.model.teacher.file=mae_visualize_vit_large.pth \
      --config.data.path=folder:/data/imagenet

The teacher is any file of MAE's ViT-L/16 (that of the released run predicts raw pixels), or the
folder of a run. Sources: "code" is the official repository's scripts; what is marked "ours" no
source says. Expected at scale, fine-tuned on ImageNet-1k with `supervised/classify:dmae_b16`
(paper's abstract): b16 84.0 %, b16_95 83.6 %, b16_98 82.4 %.
"""

from maskjax.configs import common


def get_config(arg: str = "b16"):
    """The experiment `arg`: tiny, demo, b16, b16_95, b16_98, s16."""
    config = common.experiment("distill.dmae")
    config.optim.name = "adamw"
    config.optim.b1 = 0.9  # code
    config.optim.b2 = 0.95  # code
    config.optim.weight_decay = 0.05  # code; not on biases and norms
    variants = {
        "tiny": tiny,
        "demo": demo,
        "b16": lambda c: pretrain(c, "b", 0.75),  # code
        "b16_95": lambda c: pretrain(c, "b", 0.95),  # code: 9 of 196 patches (paper: "ten")
        "b16_98": lambda c: pretrain(c, "b", 0.98),  # code: 3 (paper: "four")
        "s16": s16,
    }
    common.variant(arg, variants)(config)
    return config


def tiny(config):
    """Seconds on a CPU, with an untrained teacher: for tests and a first look (ours)."""
    common.tiny(config)
    config.model.mask_ratio = 0.5
    config.model.encoder = {"dim": 32, "depth": 2, "heads": 2, "mlp_ratio": 4.0}
    config.model.decoder = {"dim": 16, "depth": 1, "heads": 2, "mlp_ratio": 4.0}
    common.tiny_teacher(config, blocks=2)
    config.model.student_blocks = (1,)


def demo(config):
    """As MAE's demo, taught by a run of `mim/mae:teacher` (ours); `make distill-demo` does both."""
    common.demo(config)
    config.model.encoder = {"dim": 64, "depth": 3, "heads": 4, "mlp_ratio": 4.0}
    config.model.decoder = {"dim": 32, "depth": 1, "heads": 4, "mlp_ratio": 4.0}
    config.model.norm_pix = True  # as its teacher, and MAE's demo
    common.demo_teacher(config, blocks=4)
    config.model.student_blocks = (2,)


def s16(config):
    """ViT-S/16 with the code's smaller decoder; its recipe is b16's (ours)."""
    pretrain(config, "s", 0.75)
    config.model.decoder.depth = 2  # code


def pretrain(config, encoder: str, mask_ratio: float):
    """The official recipe; the student's block 9 of 12 is aligned with block 18 of 24."""
    common.imagenet(config, global_batch=4096, epochs=100)  # code: 128 x 8 x 4
    config.model.encoder = common.transformer(encoder)
    config.model.decoder = {"dim": 512, "depth": 8, "heads": 16, "mlp_ratio": 4.0}  # code
    config.model.mask_ratio = mask_ratio
    config.model.teacher.name = "mae_l16"  # code
    config.model.teacher.blocks = 18  # code
    config.model.student_blocks = (9,)  # code
    config.model.norm_pix = False  # code
    config.model.dtype = "bfloat16"  # ours; the code runs fp16 autocast
    config.optim.base_lr = 1.5e-4  # code; times batch / 256
    config.optim.warmup_epochs = 20.0  # code
