r"""SimMIM pretraining (Xie et al., CVPR 2022).

    maskjax train --config=configs/mim/simmim.py:b16 --workdir=DIR \
      --config.data.path=folder:/data/imagenet

Sources: "code" is the official repository's model and configs, "README" what that says; what is
marked "ours" no source says. Expected at scale, fine-tuned on ImageNet-1k (README): b16 83.8 %
after 800 epochs; swin_b_100 82.8 % at 192 px and 83.5 % at 224; swin_b 84.0 % and swin_l 85.4 %
after 800. No figure is known for l16.
"""

import dataclasses

from maskjax.configs import common

from maskjax.nn.swin import SWIN_SIZES


def get_config(arg: str = "b16"):
    """The experiment `arg`: tiny, demo (both also with _swin), b16, l16, swin_b[_100], swin_l."""
    config = common.experiment("mim.simmim")
    config.optim.name = "adamw"
    config.optim.b1 = 0.9  # code
    config.optim.b2 = 0.999  # code
    config.optim.eps = 1e-8  # code
    config.optim.weight_decay = 0.05  # code; not on biases, norms, channel factors, cls token
    config.optim.clip_norm = 5.0  # code
    config.model.mask_ratio = 0.6  # code
    variants = {
        "tiny": tiny,
        "tiny_swin": tiny_swin,
        "demo": demo,
        "demo_swin": demo_swin,
        "b16": b16,
        "l16": l16,
        "swin_b": swin_b,
        "swin_b_100": swin_b_100,
        "swin_l": swin_l,
    }
    common.variant(arg, variants)(config)
    return config


def tiny(config):
    """Seconds on a CPU: for tests and a first look (ours).

    Mask tokens tell places apart by relative biases alone, which start at 0: the loss stays at that
    of a constant for 100 steps, then falls.
    """
    common.tiny(config)
    config.train.steps = 200
    config.model.encoder = {"dim": 32, "depth": 2, "heads": 2, "mlp_ratio": 4.0}
    config.model.init_std = 0.1  # 0.02 is for widths of hundreds
    config.model.mask_cell = 4


def tiny_swin(config):
    """The same with a Swin of two stages (ours)."""
    tiny(config)
    swin(config, {"dim": 16, "depths": (2, 1), "heads": (2, 2), "window": 2, "mlp_ratio": 2.0})


def demo(config):
    """Minutes on two CPU cores; cells of a quarter of the side, as 32 pixels are nearly (ours)."""
    common.demo(config)
    config.model.encoder = {"dim": 64, "depth": 3, "heads": 4, "mlp_ratio": 4.0}
    config.model.mask_cell = 8
    config.model.drop_path = 0.0
    config.model.init_std = 0.07  # 0.02 at width 768, times sqrt(768 / 64)
    config.optim.lr = 2e-3


def demo_swin(config):
    """The same with a Swin of two stages (ours)."""
    demo(config)
    config.model.patch_size = (2, 2)
    swin(config, {"dim": 32, "depths": (2, 2), "heads": (2, 4), "window": 4, "mlp_ratio": 4.0})


def b16(config):
    """ViT-B/16, 224 px."""
    vit(config, "b")


def l16(config):
    """ViT-L/16, 224 px: base's recipe (ours; the paper's ViT is base only)."""
    vit(config, "l")


def swin_b(config):
    """Swin-B, 192 px, windows of 6, 800 epochs."""
    pretrain(config)
    swin_192(config, "b")


def swin_l(config):
    """Swin-L, 192 px, windows of 12, 800 epochs."""
    pretrain(config)
    swin_192(config, "l")


def swin_b_100(config):
    """Swin-B, 192 px, windows of 6, 100 epochs: a larger rate, and a cosine."""
    pretrain(config, epochs=100)
    swin_192(config, "b")
    config.optim.base_lr = 2e-4  # code
    config.optim.warmup_lr = 1e-6  # code
    config.optim.min_lr = 1e-5  # code
    config.optim.schedule = "cosine_through"  # code: timm's, under the warm-up
    config.optim.drop_epochs = ()


def vit(config, size: str):
    """BEiT's kind of ViT, as in the official code."""
    pretrain(config)
    config.model.encoder = common.transformer(size)
    config.model.drop_path = 0.1  # code
    config.model.layer_scale = 0.1  # code


def swin(config, size: dict):
    """Swin instead of ViT, at any size."""
    config.model.backbone = "swin"
    config.model.swin = size
    config.model.drop_path = 0.0  # code: none in pretraining
    config.model.norm_eps = 1e-5  # code


def swin_192(config, size: str):
    """A published Swin."""
    swin(config, dataclasses.asdict(SWIN_SIZES[size]))
    config.model.image_size = (192, 192)  # code
    config.model.patch_size = (4, 4)  # code


def pretrain(config, epochs: float = 800):
    """The official recipe of 800 epochs; 2048 images are the example's 16 x 128 (README)."""
    common.imagenet(config, global_batch=2048, epochs=epochs)
    config.data.crop_scale = (0.67, 1.0)  # code
    config.data.interpolation = "bilinear"  # code: torchvision's default
    config.model.dtype = "bfloat16"  # ours; the code runs apex O1, fp16
    config.optim.lr_batch = 512  # code: the rates are for 512 images
    config.optim.scale_ends = True  # code: those of both ends too
    config.optim.base_lr = 1e-4  # code
    config.optim.warmup_lr = 5e-7  # code
    config.optim.warmup_epochs = 10.0  # code
    config.optim.schedule = "step"  # code
    config.optim.drop_epochs = (700,)  # code
    config.optim.drop_factor = 0.1  # code
