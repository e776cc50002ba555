r"""MR-MAE and MR-MCMAE pretraining: mimic before reconstruct (Gao et al., IJCV 2024).

    maskjax train --config=configs/distill/mr_mae.py:conv_b --workdir=DIR \
      --config.data.path=folder:/data/imagenet --config.model.teacher.file=ViT-B-16.safetensors

Sources: "code" is the official ConvMAE repository, which MR-MCMAE is built on; "paper" is the
paper's abstract; "memory" is what is remembered of its method, unverified; the rest is ours. The
code of the mimic loss was never published. Expected at scale, fine-tuned on ImageNet-1k (paper and
repository): b16 85.0 % after 200 epochs; conv_b 85.7 % after 200 and 85.8 % after 400; convmae_b,
without a teacher, 85.0 % after 1600. b16 is fine-tuned by `supervised/classify:mae_b16`; for the
masked convolutions there is no fine-tuning here yet.
"""

from maskjax.configs import common


def get_config(arg: str = "b16"):
    """The experiment `arg`: tiny, tiny_conv, demo, demo_conv, b16, conv_b or convmae_b."""
    config = common.experiment("distill.mr_mae")
    config.optim.name = "adamw"
    config.optim.b1 = 0.9  # code
    config.optim.b2 = 0.95  # code
    config.optim.weight_decay = 0.05  # code; not on biases and norms
    config.model.mask_ratio = 0.75  # code, paper
    config.model.norm_pix = True  # code
    config.model.mimic_weight = 1.0  # memory
    variants = {
        "tiny": tiny,
        "tiny_conv": tiny_conv,
        "demo": demo,
        "demo_conv": demo_conv,
        "b16": b16,
        "conv_b": conv_b,
        "convmae_b": convmae_b,
    }
    common.variant(arg, variants)(config)
    return config


def tiny(config):
    """Seconds on a CPU: an untrained teacher, for tests and a first look (ours)."""
    common.tiny(config)
    config.model.mask_ratio = 0.5
    config.model.encoder = {"dim": 32, "depth": 2, "heads": 2, "mlp_ratio": 4.0}
    config.model.decoder = {"dim": 16, "depth": 1, "heads": 2, "mlp_ratio": 4.0}
    common.tiny_teacher(config)


def tiny_conv(config):
    """The same with masked convolutions (ours)."""
    tiny(config)
    config.model.backbone = "conv"
    config.model.patch_size = (4, 4)
    config.model.conv.update({"dims": (8, 12, 32), "depths": (1, 1, 1), "patches": (1, 2, 2)})
    config.model.conv.heads = 2
    config.model.teacher.change += ("patch_size=4",)


def demo(config):
    """As MAE's demo, taught by a run of `mim/mae:teacher` (ours); see `make distill-demo`."""
    common.demo(config)
    config.model.encoder = {"dim": 64, "depth": 3, "heads": 4, "mlp_ratio": 4.0}
    config.model.decoder = {"dim": 32, "depth": 1, "heads": 4, "mlp_ratio": 4.0}
    common.demo_teacher(config)


def demo_conv(config):
    """The same with masked convolutions (ours)."""
    demo(config)
    config.model.backbone = "conv"
    config.model.conv.update({"dims": (16, 32, 64), "depths": (1, 1, 2), "patches": (1, 2, 2)})
    config.model.conv.heads = 4


def b16(config):
    """MR-MAE: ViT-B/16, 224 px, with CLIP's ViT-B/16; `model.second.file` adds DINO's."""
    pretrain(config, epochs=200)  # paper
    config.model.encoder = common.transformer("b")


def conv_b(config):
    """MR-MCMAE-B: masked convolutions."""
    pretrain(config, epochs=400)  # paper; also 200
    config.model.backbone = "conv"  # sizes: the defaults are ConvMAE-B's (code)


def convmae_b(config):
    """ConvMAE-B: pixels only, no teacher."""
    conv_b(config)
    config.train.epochs = 1600  # code
    config.model.mimic_weight = 0.0


def pretrain(config, epochs: float):
    """ConvMAE's recipe."""
    common.imagenet(config, global_batch=3072, epochs=epochs)  # code: 3 x 8 x 128
    config.model.decoder = {"dim": 512, "depth": 8, "heads": 16, "mlp_ratio": 4.0}  # code
    config.model.dtype = "bfloat16"  # ours
    config.optim.base_lr = 1.5e-4  # code; times batch / 256
    config.optim.warmup_epochs = 40.0  # code
