r"""CRATE-MAE pretraining (Pai et al., ICLR 2024).

    maskjax train --config=configs/mim/crate_mae.py:b16 --workdir=DIR \
      --config.data.path=folder:/data/imagenet

Sources: "code" is the official repository's model; it ships no training loop, so everything about
training is MAE's recipe, as the repository points to MAE's code: "MAE" marks it, and it should be
checked before a long run. What is marked "ours" no source says. The paper's figures are on CIFAR-10
after transfer; no ImageNet figure could be confirmed.
"""

from maskjax.configs import common


def get_config(arg: str = "b16"):
    """The experiment `arg`: tiny, demo, t16, s16, b16 or l16."""
    config = common.experiment("mim.crate_mae")
    config.evaluate.evaluators += ("layers",)
    config.optim.name = "adamw"
    config.optim.b1 = 0.9  # MAE
    config.optim.b2 = 0.95  # MAE
    config.optim.weight_decay = 0.05  # MAE; not on biases and norms
    config.model.mask_ratio = 0.75  # code
    config.model.norm_pix = False  # code: the constructor's default
    config.model.ista_step = 0.1  # code
    config.model.sparsity = 0.5  # code
    variants = {"tiny": tiny, "demo": demo, "t16": t16, "s16": s16, "b16": b16, "l16": l16}
    common.variant(arg, variants)(config)
    return config


def tiny(config):
    """Seconds on a CPU: for tests and a first look (ours)."""
    common.tiny(config)
    sizes(config, 32, 2, 2)
    config.model.mask_ratio = 0.5


def demo(config):
    """Minutes on two CPU cores (ours)."""
    common.demo(config)
    sizes(config, 64, 4, 3)
    config.optim.lr = 2e-3


def sizes(config, dim: int, heads: int, depth: int):
    """Width, subspaces, and depth of encoder and decoder alike."""
    config.model.dim, config.model.heads = dim, heads
    config.model.depth = config.model.decoder_depth = depth


def t16(config):
    """The paper's Tiny, 224 px."""
    pretrain(config, 384, 6, 12)


def s16(config):
    """The paper's Small, 224 px."""
    pretrain(config, 576, 12, 12)


def b16(config):
    """The paper's Base, 224 px."""
    pretrain(config, 768, 12, 12)


def l16(config):
    """The paper's Large, 224 px."""
    pretrain(config, 1024, 16, 24)


def pretrain(config, dim: int, heads: int, depth: int):
    """MAE's recipe (memory of the sheet: not confirmed for CRATE)."""
    common.imagenet(config, global_batch=4096, epochs=800)  # MAE
    sizes(config, dim, heads, depth)
    config.model.dtype = "bfloat16"  # ours
    config.optim.base_lr = 1.5e-4  # MAE; times batch / 256
    config.optim.warmup_epochs = 40.0  # MAE
