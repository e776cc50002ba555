r"""Training through a projection head: supervised contrastive, NT-Xent, cross-entropy.

    maskjax train --config=configs/supervised/contrast.py:r50 --workdir=DIR \
      --config.data.path=folder:/data/waterbirds

Evaluators read the features before the head (`evaluate.pool="mean"`), or those after it ("cls").
Sources: "code" is the experiments' repository of Xue et al. (ICLR 2024); what is marked "ours" no
source says. No figure of the paper is known to us.
"""

from maskjax.configs import common


def get_config(arg: str = "r50"):
    """The experiment `arg`: tiny, tiny_nt_xent, r50."""
    config = common.experiment("supervised.contrast")
    config.evaluate.evaluators = ("knn", "linear_probe", "rank")
    variants = {"tiny": tiny, "tiny_nt_xent": tiny_nt_xent, "r50": r50}
    common.variant(arg, variants)(config)
    return config


def tiny(config):
    """Seconds on a CPU: a ViT and an MLP on digits (ours)."""
    common.tiny(config)
    config.model.backbone = "vit"
    config.model.encoder = {"dim": 32, "depth": 2, "heads": 2, "mlp_ratio": 4.0}
    config.model.num_classes = 10
    config.model.hidden = config.model.features = 32


def tiny_nt_xent(config):
    """The same without labels: two views of each image are alike (ours)."""
    tiny(config)
    config.model.loss, config.model.num_classes = "nt_xent", 0
    config.model.views = config.data.views = 2
    config.data.crop = True


def r50(config):
    """ResNet-50 on Waterbirds or CelebA, from ImageNet weights (`init_from`)."""
    config.data.path = "folder:waterbirds"
    config.data.global_batch = 32  # code
    config.data.crop_scale = (0.7, 1.0)  # code
    config.train.epochs = 100.0  # code
    config.optim.name, config.optim.momentum = "sgd", 0.9  # code
    config.optim.lr = 1e-3  # code
    config.optim.schedule = "constant"  # ours
    config.optim.weight_decay = 1e-3  # code
    config.model.temperature = 0.5  # code
