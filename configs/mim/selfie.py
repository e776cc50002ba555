r"""Selfie pretraining (Trinh et al., arXiv 1906.02940).

    maskjax train --config=configs/mim/selfie.py:r50_224 --workdir=DIR \
      --config.data.path=folder:/data/imagenet

Sources: no official code is known. "peer" is an independent re-implementation on CIFAR-10, "memory"
the paper as remembered, "ours" what no source says. Expected at scale (paper's abstract): ResNet-50
fine-tuned on 5 % of ImageNet's labels 46.7 % against 35.6 % from scratch.
"""

from maskjax.configs import common


def get_config(arg: str = "r50_224"):
    """The experiment `arg`: tiny, demo, r50_32 or r50_224."""
    config = common.experiment("mim.selfie")
    config.evaluate.evaluators += ("choices",)
    config.model.target_ratio = 0.25  # peer
    variants = {"tiny": tiny, "demo": demo, "r50_32": r50_32, "r50_224": r50_224}
    common.variant(arg, variants)(config)
    return config


def small(config, widths: tuple[int, ...], heads: int, hidden: int, layers: int):
    """A small network with AdamW, which needs no search for a learning rate (ours)."""
    config.model.net = {"stem": 16, "widths": widths, "blocks": (1,) * len(widths), "expansion": 4}
    config.model.pool = {"layers": layers, "heads": heads, "hidden": hidden}
    config.optim.name = "adamw"
    config.optim.weight_decay = 0.05
    config.optim.clip_norm = 1.0  # logits are raw dot products and grow fast
    config.optim.lr = 1e-3


def tiny(config):
    """Seconds on a CPU: for tests and a first look (ours)."""
    common.tiny(config)
    small(config, (4, 8), 4, 24, 1)


def demo(config):
    """Minutes on two CPU cores (ours): 16 patches of 8 x 8 pixels."""
    common.demo(config)
    config.model.patch_size = (8, 8)
    small(config, (8, 16, 16), 4, 64, 2)


def sgd(config):
    """The paper's optimizer (memory); lr from a small grid for each data size, 0.1 by default."""
    config.optim.name = "sgd"
    config.optim.momentum = 0.9
    config.optim.nesterov = True
    config.optim.weight_decay = 1e-4
    config.optim.lr = 0.1  # peer: 0.4
    config.model.net = {"stem": 64, "widths": (64, 128, 256), "blocks": (3, 4, 6), "expansion": 4}
    config.model.pool = {"layers": 3, "heads": 32, "hidden": 640}  # peer = memory
    config.model.dropout = 0.1  # peer = memory


def r50_32(config):
    """Images of 32 px in 16 patches of 8 (paper); `--config.data.path=...` says which."""
    sgd(config)
    config.data.path = "folder:cifar10"
    config.data.global_batch = 128  # peer
    config.data.crop_scale = (0.6, 1.0)  # ours; peer: shifts by 4 px with zero padding
    config.train.epochs = 200.0  # peer
    config.optim.warmup_steps = 100  # memory; peer: 1000


def r50_224(config):
    """ImageNet at 224 px in 49 patches of 32 (paper), with sums of row and column embeddings."""
    sgd(config)
    common.imagenet(config, global_batch=512, epochs=0)
    config.train.epochs = 0.0
    config.train.steps = 120_000  # memory: "of the order of"
    config.optim.warmup_steps = 100  # memory
    config.model.image_size = (224, 224)
    config.model.patch_size = (32, 32)
    config.model.positions = "rows_columns"  # paper
    config.model.stem_pool = True  # ours: the paper's stem for 32-px patches is not known
    config.model.dtype = "bfloat16"  # ours
