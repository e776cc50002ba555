"""Functions that fill an experiment; a config file says which of them it wants."""

import dataclasses

from ml_collections import ConfigDict

from maskjax.config import default_config
from maskjax.data.stats import IMAGENET, known_stats
from maskjax.errors import UserError
from maskjax.nn.vit import SIZES


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


def embedded(config: ConfigDict, path: str, *, image_size: int, channels: int):
    """A small data set that comes with the package, with its own channel statistics."""
    config.data.path = path
    config.model.channels = channels
    config.model.image_size = (image_size, image_size)
    config.model.mean, config.model.std = known_stats(path, channels)


def imagenet(config: ConfigDict, *, global_batch: int, epochs: float):
    """ImageNet-1k from a folder; `--config.data.path=folder:DIR` says where."""
    config.data.path = "folder:imagenet"
    config.data.train_split = "train"
    config.data.test_split = "val"
    config.data.global_batch = global_batch
    config.data.resize = 256
    config.data.workers = 8
    config.train.epochs = epochs
    config.model.mean, config.model.std = IMAGENET
    config.checkpoint.every = 2500
