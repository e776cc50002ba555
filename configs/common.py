"""Functions that fill an experiment; a config file says which of them it wants."""

import dataclasses

from ml_collections import ConfigDict

from maskjax.config import default_config
from maskjax.errors import UserError
from maskjax.nn.vit import SIZES

# Channel statistics of ImageNet's training set, as every official code uses them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def experiment(method: str) -> ConfigDict:
    """All entries with their defaults."""
    return default_config(method)


def variant(arg: str, variants: dict):
    """The function that `arg` names.

    Raises:
        UserError: for an unknown variant (lists the valid ones).
    """
    if arg not in variants:
        raise UserError(f"no variant {arg!r}; variants: {', '.join(variants)}")
    return variants[arg]


def transformer(name: str) -> dict:
    """dim, depth, heads, mlp_ratio of the ViT size `name` (tiny, s, b, l, h, g)."""
    return dataclasses.asdict(SIZES[name])


def small_images(config: ConfigDict, path: str, mean: tuple, std: tuple):
    """An embedded data set of small images, with its own channel statistics."""
    config.data.path = path
    config.model.mean = mean
    config.model.std = std


def imagenet(config: ConfigDict, *, global_batch: int, epochs: float):
    """ImageNet-1k from a folder; `--config.data.path=folder:DIR` says where."""
    config.data.path = "folder:imagenet"
    config.data.train_split = "train"
    config.data.test_split = "val"
    config.data.global_batch = global_batch
    config.data.resize = 256
    config.data.workers = 8
    config.train.epochs = epochs
    config.model.mean = IMAGENET_MEAN
    config.model.std = IMAGENET_STD
    config.checkpoint.every = 2500
