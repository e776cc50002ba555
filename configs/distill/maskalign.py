r"""MaskAlign: a student's visible patches aligned with a teacher's whole image (Xue et al., 2023).

    maskjax train --config=configs/distill/maskalign.py:b16 --workdir=DIR \
      --config.model.teacher.file=clip-vit-base-patch16 \
      --config.data.path=folder:/data/imagenet

The teacher is a folder or file of CLIP's ViT-B/16 (or L/14) in Hugging Face's or OpenAI's names, or
of DINO's. Sources: "code" is the official repository's scripts and defaults; what is marked "ours"
no source says. Expected at scale, fine-tuned on ImageNet-1k (official model card): b16 85.4 %, l16
86.5 %, l16_l14 87.4 %.
"""

from maskjax.configs import common


def get_config(arg: str = "b16"):
    """The experiment `arg`: tiny, demo, b16, b16_dino, l16, l16_l14."""
    config = common.experiment("distill.maskalign")
    config.evaluate.evaluators = ("knn", "linear_probe", "rank", "gaze")  # it reconstructs nothing
    config.optim.name = "adamw"
    config.optim.b1 = 0.9  # code
    config.optim.b2 = 0.95  # code
    config.optim.weight_decay = 0.05  # code; not on biases, norms and the mixing matrix
    variants = {
        "tiny": tiny,
        "demo": demo,
        "b16": lambda c: pretrain(c, "b", "clip_b16", 12),
        "b16_dino": lambda c: pretrain(c, "b", "dino_b16", 12),  # ours: the code offers the teacher
        "l16": lambda c: pretrain(c, "l", "clip_b16", 12),
        "l16_l14": lambda c: pretrain(c, "l", "clip_l14", 24),
    }
    common.variant(arg, variants)(config)
    return config


def tiny(config):
    """Seconds on a CPU, with an untrained teacher: for tests and a first look (ours)."""
    common.tiny(config)
    config.model.encoder = {"dim": 32, "depth": 2, "heads": 2, "mlp_ratio": 4.0}
    common.tiny_teacher(config, blocks=3)
    config.model.fusion = "sum"
    config.model.layer_weights = "top2"


def demo(config):
    """Minutes on a CPU, taught by a run of `mim/mae:teacher` (ours): `make distill-demo`."""
    common.demo(config)
    config.model.encoder = {"dim": 64, "depth": 3, "heads": 4, "mlp_ratio": 4.0}
    common.demo_teacher(config, blocks=6)
    config.model.fusion = "sum"
    config.model.layer_weights = "top3"
    config.model.drop_path = 0.0  # three blocks


def pretrain(config, encoder: str, name: str, blocks: int):
    """The official recipe; depths that differ are mixed by "sum"."""
    common.imagenet(config, global_batch=1024, epochs=200)  # code
    config.model.encoder = common.transformer(encoder)
    config.model.teacher.name = name
    config.model.teacher.blocks = blocks  # all, without the final norm, which is not compared
    if name == "clip_l14":
        config.model.teacher.image_size = (196, 196)  # code: a grid of 14 x 14, too
    config.model.fusion = "linear" if config.model.encoder.depth == blocks else "sum"  # code
    config.model.mask_ratio = 0.7  # code
    config.model.drop_path = 0.1 if encoder == "b" else 0.2  # code
    config.model.dtype = "bfloat16"  # ours; the code runs fp16 autocast
    config.optim.base_lr = 1.5e-4  # code; times batch / 256
    config.optim.min_lr = 1e-5  # code
    config.optim.warmup_epochs = 20.0  # code
