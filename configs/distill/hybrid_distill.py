r"""Hybrid Distill (Shi et al., ICLR 2024): features of one teacher, token relations of another.

    maskjax train --config=configs/distill/hybrid_distill.py:b16 --workdir=DIR \
      --config.data.path=folder:/data/imagenet \
      --config.model.feature_teacher.file=deit_base_patch16_224.safetensors \
      --config.model.relation_teacher.file=mae_pretrain_vit_base.pth

No code was published. "paper" is the paper's abstract, "reviews" what its public reviews quote,
"memory" what is remembered and unverified; the rest is ours. Expected at scale, fine-tuned on
ImageNet-1k: b16 (MAE and DeiT) 83.7 % (reviews), b16_clip (MAE and CLIP) 85.1 % (memory), l16 (MAE
and CLIP) 87.6 % (reviews).
"""

from maskjax.configs import common


def get_config(arg: str = "b16"):
    """The experiment `arg`: tiny, demo, b16, b16_clip or l16."""
    config = common.experiment("distill.hybrid_distill")
    config.evaluate.evaluators = ("knn", "linear_probe", "rank", "stages", "attention")
    config.optim.name = "adamw"  # memory
    config.optim.b2 = 0.95  # ours
    config.optim.weight_decay = 0.05  # memory
    config.model.alpha = 1.0  # reviews
    config.model.beta = 1.0  # reviews
    config.model.mask.ratio = 0.65  # memory, uncertain
    variants = {"tiny": tiny, "demo": demo, "b16": b16, "b16_clip": b16_clip, "l16": l16}
    common.variant(arg, variants)(config)
    return config


def tiny(config):
    """Seconds on a CPU, with untrained teachers: for tests and a first look (ours)."""
    common.tiny(config)
    config.model.encoder = {"dim": 32, "depth": 3, "heads": 2, "mlp_ratio": 4.0}
    for name in ("feature_teacher", "relation_teacher"):
        common.tiny_teacher(config, name=name)
    config.model.mask.ratio = 0.5


def demo(config):
    """Minutes on two CPU cores; the teachers are runs that `make distill-demo` trains (ours).

    Relations are those of `mim/mae:teacher`, features those of `supervised/classify:demo`.
    """
    common.demo(config)
    config.model.encoder = {"dim": 96, "depth": 6, "heads": 6, "mlp_ratio": 4.0}
    common.demo_teacher(config, name="relation_teacher")
    classifier = ("dim=64", "depth=3", "heads=4", "mlp_hidden=256", "patch_size=4")
    config.model.feature_teacher.name = "mae_b16"
    config.model.feature_teacher.file = "runs/distill/classifier"
    config.model.feature_teacher.change = (*classifier, "position=learned", "pool=gap")


def b16(config):
    """ViT-B/16 with DeiT-B and MAE-B."""
    pretrain(config, "b")


def b16_clip(config):
    """ViT-B/16 with CLIP-B/16 and MAE-B."""
    pretrain(config, "b")
    config.model.feature_teacher.name = "clip_b16"


def l16(config):
    """ViT-L/16 with CLIP-L/14, which sees 196 pixels (ours), and MAE-L."""
    pretrain(config, "l")
    config.model.feature_teacher.name = "clip_l14"
    config.model.feature_teacher.image_size = (196, 196)
    config.model.relation_teacher.name = "mae_l16"


def pretrain(config, encoder: str):
    """The recipe; a second ViT-L was trained on ImageNet-21k for 40 epochs (reviews)."""
    common.imagenet(config, global_batch=1024, epochs=300)  # memory; 100 for ablations
    config.model.encoder = common.transformer(encoder)
    config.model.dtype = "bfloat16"  # ours
    config.optim.lr = 6e-4  # memory
    config.optim.warmup_epochs = 20.0  # ours
