r"""SparK pretraining of convnets (Tian et al., ICLR 2023).

    maskjax train --config=configs/mim/spark.py:r50 --workdir=DIR \
      --config.data.path=folder:/data/imagenet
    maskjax export --workdir=DIR --format=resnet --what=encoder --out=resnet50.safetensors

Sources: "code" is the official repository (pretraining and its README); what is marked "ours" no
source says. Expected at scale, fine-tuned on ImageNet-1k (README): r50 80.6 %, r101 82.2, r152
82.7, r200 83.1, convnext_s 84.1, convnext_b 84.8, convnext_l 85.4, and 86.0 for l384.

Fine-tuning here: --config=supervised/classify:spark_convnext_s (or _b) --config.init_from=DIR. The
official code takes the backbone's file, whose names are the plain network's: 8 groups of layers for
ResNet-50, 14 for ConvNeXt-S/B/L (`Method.layers` gives the same), and
  ConvNeXt S, B, L   batch 4096, AdamW, 2e-4, 1e-4, 1e-4 for 256 images, 400, 400, 200 epochs,
                     warm-up 20, 20, 10, layer decay .7, weight decay .01, .01, .02, mixup .8,
                     drop-path .3, .4, .5, EMA .9999; at 384 px L: batch 1024, 6e-5, 200, EMA .99995
  R50                batch 2048, LAMB, 2e-3, 300 epochs, warm-up 5, layer decay .7, decay .02,
                     mixup .1, drop-path .05; R101, 152, 200: 1e-3, layer decay .8, drop-path .2
LAMB there has no bias correction and adapts every parameter (`optim.bias_correction`,
`optim.always_adapt`); ResNets use binary cross-entropy, which `supervised.classify` does not have.
"""

from maskjax.configs import common

RESNETS = {
    # blocks (He et al.), drop-path (code)
    "r50": ((3, 4, 6, 3), 0.05),
    "r101": ((3, 4, 23, 3), 0.08),
    "r152": ((3, 8, 36, 3), 0.10),
    "r200": ((3, 24, 36, 3), 0.15),
}
CONVNEXTS = {
    # first width (Liu et al.), drop-path (code)
    "convnext_s": (96, 0.2),
    "convnext_b": (128, 0.3),
    "convnext_l": (192, 0.4),
}


def get_config(arg: str = "r50"):
    """The experiment `arg`: tiny, demo (both also with _convnext), r50 ... r200, convnext_s/b/l,
    convnext_l384."""
    config = common.experiment("mim.spark")
    config.optim.name = "lamb"  # code
    config.optim.eps = 1e-6  # code: timm's
    config.optim.clip_norm = 5.0  # code
    config.optim.weight_decay = 0.04  # code; not on biases, norms, channel factors, tokens
    config.optim.weight_decay_end = 0.2  # code: a cosine
    variants = {
        "tiny": tiny,
        "tiny_convnext": tiny_convnext,
        "demo": demo,
        "demo_convnext": demo_convnext,
        **{name: lambda config, name=name: resnet(config, name) for name in RESNETS},
        **{name: lambda config, name=name: convnext(config, name) for name in CONVNEXTS},
        "convnext_l384": convnext_l384,
    }
    common.variant(arg, variants)(config)
    return config


def small(config, widths: tuple[int, ...], blocks: tuple[int, ...], decoder: int):
    """A ResNet for small images (ours): no pool behind the stem, stages of stride 2, 4, ..."""
    stride = 2 ** len(widths)
    config.model.patch_size = (stride, stride)
    config.model.resnet = {
        "stem": 16,
        "widths": widths,
        "blocks": blocks,
        "expansion": 4,
        "stem_stride": 2,
        "stem_pool": False,
    }
    config.model.drop_path = 0.0
    config.model.decoder_width = decoder
    config.optim.b2 = 0.95


def small_convnext(config, widths: tuple[int, ...], blocks: tuple[int, ...]):
    """The same with a ConvNeXt whose first patches are of 2 pixels (ours)."""
    config.model.backbone = "convnext"
    config.model.convnext = {"widths": widths, "blocks": blocks, "patch": 2, "layer_scale": 0.1}


def tiny(config):
    """Seconds on a CPU: for tests and a first look (ours); four cells in an image."""
    common.tiny(config)
    small(config, (4, 8), (1, 1), 32)
    config.optim.lr = 1e-2


def tiny_convnext(config):
    """The same with a ConvNeXt (ours)."""
    tiny(config)
    small_convnext(config, (8, 16), (1, 1))


def demo(config):
    """Minutes on two CPU cores (ours): 16 cells of 8 x 8 pixels in each crop of a photograph."""
    common.demo(config, steps=2000)
    small(config, (8, 16, 32), (1, 1, 1), 64)
    config.optim.lr = 1e-2


def demo_convnext(config):
    """The same with a ConvNeXt (ours)."""
    demo(config)
    small_convnext(config, (16, 32, 64), (1, 1, 1))


def pretrain(config, *, global_batch: int = 4096, base_lr: float = 2e-4):
    """The official recipe; the rates are for 256 images."""
    common.imagenet(config, global_batch=global_batch, epochs=1600)  # code
    config.data.crop_scale = (0.67, 1.0)  # code
    config.optim.base_lr = base_lr  # code
    config.optim.scale_ends = True
    config.optim.warmup_lr = 0.005 * base_lr  # code
    config.optim.warmup_epochs = 40.0  # code
    config.optim.min_lr = 0.001 * base_lr  # code
    config.optim.b1 = 0.9  # code
    config.model.mask_ratio = 0.6  # code


def resnet(config, name: str):
    """A ResNet at 224 px."""
    pretrain(config)
    config.model.resnet.blocks, config.model.drop_path = RESNETS[name]
    config.optim.b2 = 0.95  # code


def convnext(config, name: str):
    """A ConvNeXt at 224 px."""
    pretrain(config)
    width, config.model.drop_path = CONVNEXTS[name]
    config.model.backbone = "convnext"
    config.model.convnext.widths = tuple(width * 2**i for i in range(4))
    config.model.convnext.blocks = (3, 3, 27, 3)
    config.model.remat = "full"  # ours: memory
    config.optim.b2 = 0.999  # code


def convnext_l384(config):
    """ConvNeXt-L at 384 px: more is hidden."""
    convnext(config, "convnext_l")
    pretrain(config, global_batch=2048, base_lr=4e-4)  # code
    config.model.image_size = (384, 384)
    config.model.mask_ratio = 0.75  # code
