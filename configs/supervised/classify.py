r"""Fine-tuning with labels, and training from scratch.

    maskjax train --config=configs/supervised/classify.py:mae_b16 --workdir=DIR \
      --config.init_from=runs/mae --config.data.path=folder:/data/imagenet

`init_from` takes a run of any method or a file of any layout of docs/weights.md; without it a
variant starts from random weights. Sources: "MAE code", "SimMIM code", "CAE code", "MaskAlign code"
and "SparK code" are the official repositories' scripts and configs; "DMAE sheet" is a summary of
DMAE's official scripts, which were not read again; "memory" is a paper's figure that was not
checked against it; what is marked "ours" no source says. Expected on ImageNet-1k, from the
official weights (their READMEs): mae_b16 83.6 %, mae_l16 85.9 %, mae_h14 86.9 %, simmim_b16 83.8 %,
simmim_swin_b 84.0 %, simmim_swin_b_100 83.5 %, simmim_swin_l 85.4 %, dmae_b16 84.0 %,
maskalign_b16 85.4 %, maskalign_l16 86.5 % (taught by CLIP-B/16) or 87.4 % (by L/14),
spark_convnext_s 84.1 %, spark_convnext_b 84.8 %.
"""

import dataclasses

from maskjax.configs import common

from maskjax.nn.swin import SWIN_SIZES


def get_config(arg: str = "mae_b16"):
    """The experiment `arg`: a recipe, scratch, demo, tiny[_plain|_swin|_resnet|_convnext]."""
    config = common.experiment("supervised.classify")
    config.optim.name = "adamw"
    config.optim.weight_decay = 0.05  # all codes; not on biases, norms, positions, cls token
    config.evaluate.evaluators = ("classify", "knn")
    variants = {
        "tiny": tiny,
        "tiny_plain": tiny_plain,
        "tiny_swin": tiny_swin,
        "tiny_resnet": tiny_resnet,
        "tiny_convnext": tiny_convnext,
        "demo": demo,
        "scratch": scratch,
        "mae_b16": lambda c: mae(c, "b", 16, epochs=100, blr=5e-4, decay=0.65, drop=0.1),
        "mae_l16": lambda c: mae(c, "l", 16, epochs=50, blr=1e-3, decay=0.75, drop=0.2),
        "mae_h14": lambda c: mae(c, "h", 14, epochs=50, blr=1e-3, decay=0.75, drop=0.3),
        "dmae_b16": dmae_b16,
        # MaskAlign code's README.
        "maskalign_b16": lambda c: mae(c, "b", 16, epochs=100, blr=3e-4, decay=0.55, drop=0.2),
        "maskalign_l16": lambda c: mae(c, "l", 16, epochs=50, blr=3e-4, decay=0.75, drop=0.4),
        "cae_b16": lambda c: cae(c, "b", epochs=100, lr=8e-3, decay=0.65, drop=0.1),
        "cae_l16": lambda c: cae(c, "l", epochs=50, lr=2e-3, decay=0.75, drop=0.2),
        "spark_convnext_s": lambda c: spark(c, 96, 27, blr=2e-4, drop=0.3),
        "spark_convnext_b": lambda c: spark(c, 128, 27, blr=1e-4, drop=0.4),
        "simmim_b16": simmim_b16,
        "simmim_swin_b": lambda c: simmim_swin(c, "b", window=7, decay=0.8, drop=0.1),
        "simmim_swin_b_100": lambda c: simmim_swin(c, "b", window=7, decay=0.9, drop=0.1),
        "simmim_swin_l": lambda c: simmim_swin(c, "l", window=14, decay=0.7, drop=0.2),
    }
    common.variant(arg, variants)(config)
    return config


def tiny(config):
    """Seconds on a CPU: for tests and a first look (ours)."""
    common.tiny(config)
    config.model.num_classes = 10
    config.model.encoder = {"dim": 32, "depth": 2, "heads": 2, "mlp_ratio": 4.0}
    config.model.head_std = 0.1  # 2e-5 is for long runs
    config.model.mix_prob = 0.5
    config.optim.lr = 1e-2
    config.optim.layer_decay = 0.9
    config.optim.ema = 0.9


def tiny_plain(config):
    """The same with hard labels that are not mixed, and no drop-path (ours)."""
    tiny(config)
    config.model.mixup = config.model.cutmix = config.model.smoothing = 0.0
    config.model.drop_path = 0.0
    config.optim.lr = 3e-3


def tiny_swin(config):
    """The same with a Swin of two stages (ours)."""
    tiny(config)
    config.model.backbone, config.model.pool = "swin", "mean"
    config.model.swin = {
        "dim": 16,
        "depths": (2, 1),
        "heads": (2, 2),
        "window": 2,
        "mlp_ratio": 2.0,
    }
    config.model.norm_eps = 1e-5


def tiny_resnet(config):
    """The same with a small ResNet (ours); it has batch statistics, so no micro-batches."""
    tiny(config)
    config.model.backbone, config.model.pool = "resnet", "mean"
    config.model.resnet.update(
        {"stem": 8, "widths": (8, 16), "blocks": (1, 1), "expansion": 2, "stem_stride": 1}
    )
    config.model.resnet.stem_pool = False


def tiny_convnext(config):
    """The same with a small ConvNeXt (ours)."""
    tiny(config)
    config.model.backbone = "convnext"
    config.model.convnext = {"widths": (8, 16), "blocks": (1, 1), "patch": 2, "layer_scale": 0.1}


def demo(config):
    """Minutes on two CPU cores, from `mim/mae:demo` or from scratch (ours)."""
    common.demo(config, steps=1000)
    config.model.num_classes = 18
    config.model.encoder = {"dim": 64, "depth": 3, "heads": 4, "mlp_ratio": 4.0}
    config.model.head_std = 2e-2
    config.model.drop_path = 0.0
    config.model.mixup = config.model.cutmix = 0.0  # photographs of few scenes: a short run
    config.data.flip = True
    config.optim.lr = 1e-3
    config.optim.layer_decay = 0.75
    config.optim.ema = 0.99


def scratch(config):
    """ViT-B/16 from random weights: the recipe of MAE's appendix (table 11, memory)."""
    recipe(config, global_batch=4096, epochs=300)
    vit(config, "b", 16)
    config.model.drop_path = 0.1  # memory
    config.model.init_std = 0.02  # ours: timm's and DeiT's
    config.optim.base_lr = 1e-4  # memory; times batch / 256
    config.optim.weight_decay = 0.3  # memory
    config.optim.b2 = 0.95  # memory
    config.optim.warmup_epochs = 20.0  # memory
    config.optim.ema = 0.9999  # memory
    config.data.erase = 0.0  # memory: not in the table


def mae(config, size: str, patch: int, *, epochs: float, blr: float, decay: float, drop: float):
    """MAE's fine-tuning; blr, decay and drop-path are those of the code's table for the size."""
    recipe(config, global_batch=1024, epochs=epochs)
    vit(config, size, patch)
    config.model.drop_path = drop  # MAE code
    config.optim.base_lr = blr  # MAE code; times batch / 256
    config.optim.layer_decay = decay  # MAE code
    config.optim.warmup_epochs = 5.0  # MAE code
    config.optim.min_lr = 1e-6  # MAE code


def dmae_b16(config):
    """DMAE's fine-tuning of ViT-B/16."""
    mae(config, "b", 16, epochs=100, blr=5e-4, decay=0.75, drop=0.15)  # DMAE sheet
    config.optim.warmup_epochs = 20.0  # DMAE sheet


def cae(config, size: str, *, epochs: float, lr: float, decay: float, drop: float):
    """CAE's fine-tuning: fixed positions, and relative biases in each block that start at 0."""
    recipe(config, global_batch=4096, epochs=epochs)
    vit(config, size, 16)
    config.model.position = "sincos_rows"  # CAE code
    config.model.relative = "layer"  # CAE code
    config.model.qkv_bias = "query_value"  # CAE code
    config.model.layer_scale = 0.1  # CAE code: as in pretraining
    config.model.drop_path = drop  # CAE code
    config.optim.lr = lr  # CAE code; at 4096 images
    config.optim.layer_decay = decay  # CAE code
    config.optim.warmup_epochs = 5.0  # CAE code
    config.optim.min_lr = 1e-6  # ours: MAE's
    config.init_missing = ("encoder/blocks/relative",)  # the tables are new


def spark(config, width: int, blocks: int, *, blr: float, drop: float):
    """SparK's fine-tuning of a ConvNeXt: repeated augmentation, three views of each image."""
    recipe(config, global_batch=4032, epochs=400)  # SparK code: 4096, which 3 views do not divide
    config.data.views = config.model.mix_stride = 3  # SparK code; its views are not neighbours
    config.model.backbone, config.model.pool = "convnext", "gap"
    config.model.convnext.widths = tuple(width * 2**i for i in range(4))
    config.model.convnext.blocks = (3, 3, blocks, 3)
    config.model.drop_path = drop  # SparK code
    config.optim.base_lr = blr  # SparK code; times batch / 256
    config.optim.layer_decay = 0.7  # SparK code
    config.optim.weight_decay = 0.01  # SparK code
    config.optim.warmup_epochs = 20.0  # SparK code
    config.optim.ema = 0.9999  # SparK code


def simmim_b16(config):
    """SimMIM's fine-tuning of its ViT-B/16: the shared table becomes one for each block."""
    simmim(config, decay=0.65, drop=0.1)
    vit(config, "b", 16)
    config.model.position = "none"  # SimMIM code
    config.model.relative = "layer"  # SimMIM code
    config.model.qkv_bias = "query_value"  # SimMIM code
    config.model.layer_scale = 0.1  # SimMIM code


def simmim_swin(config, size: str, *, window: int, decay: float, drop: float):
    """SimMIM's fine-tuning of a Swin: 224 px, wider windows, tables resampled."""
    simmim(config, decay=decay, drop=drop)
    config.model.backbone, config.model.pool = "swin", "mean"
    config.model.swin = dataclasses.asdict(dataclasses.replace(SWIN_SIZES[size], window=window))
    config.model.patch_size = (4, 4)  # SimMIM code
    config.model.norm_eps = 1e-5  # SimMIM code


def simmim(config, *, decay: float, drop: float):
    """What SimMIM's fine-tunings share; 2048 images are the example's 16 x 128 (README)."""
    recipe(config, global_batch=2048, epochs=100)
    config.data.interpolation = "bicubic"  # SimMIM code
    config.model.drop_path = drop  # SimMIM code
    config.model.init_std = 0.02  # SimMIM code
    config.model.head_std = 0.02  # SimMIM code
    config.optim.lr_batch = 512  # SimMIM code: the rates are for 512 images
    config.optim.scale_ends = True  # SimMIM code
    config.optim.base_lr = 1.25e-3  # SimMIM code
    config.optim.warmup_lr = 2.5e-7  # SimMIM code
    config.optim.min_lr = 2.5e-7  # SimMIM code
    config.optim.warmup_epochs = 20.0  # SimMIM code
    config.optim.schedule = "cosine_through"  # SimMIM code: timm's, under the warm-up
    config.optim.clip_norm = 5.0  # SimMIM code
    config.optim.layer_decay = decay  # SimMIM code


def vit(config, size: str, patch: int):
    """A ViT of a published size."""
    config.model.encoder = common.transformer(size)
    config.model.patch_size = (patch, patch)


def recipe(config, *, global_batch: int, epochs: float):
    """ImageNet-1k with the augmentation that MAE's, SimMIM's, CAE's and DMAE's codes share."""
    common.imagenet(config, global_batch=global_batch, epochs=epochs)
    config.data.crop_scale = (0.08, 1.0)  # all codes: timm's default
    config.data.randaugment = "m9-mstd0.5-inc1"  # all codes
    config.data.erase = 0.25  # all codes
    config.model.smoothing = 0.1  # all codes
    config.model.mixup = 0.8  # all codes
    config.model.cutmix = 1.0  # all codes
    config.model.dtype = "bfloat16"  # ours; the codes run fp16
    config.optim.b1, config.optim.b2 = 0.9, 0.999  # all codes
    config.evaluate.evaluators = ("classify",)
    config.evaluate.during = ("classify",)
    config.evaluate.every = 2500  # ours
