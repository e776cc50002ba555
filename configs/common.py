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


def small(config: ConfigDict):
    """What the variants for a CPU share: the images as they are, a high learning rate (ours)."""
    config.data.crop = False
    config.data.flip = False
    config.data.global_batch = 64
    config.optim.lr = 3e-3
    config.evaluate.pool = "mean"


def tiny(config: ConfigDict):
    """Seconds on a CPU, for tests and a first look (ours): 60 steps on 8x8 digits, 16 patches."""
    small(config)
    embedded(config, "digits", image_size=8, channels=1)
    config.model.patch_size = (2, 2)
    brief(config)


def brief(config: ConfigDict):
    """60 steps, logged often (ours)."""
    config.train.steps = 60
    config.train.log_every = 10
    config.optim.warmup_steps = 5
    config.checkpoint.every = 30


def demo(config: ConfigDict, *, steps: int = 4000):
    """Minutes on two CPU cores, on photographs that come with the package (ours)."""
    small(config)
    embedded(config, "photo_crops", image_size=32, channels=3)
    config.model.patch_size = (4, 4)
    config.train.steps = steps
    config.optim.warmup_steps = steps // 20
    config.checkpoint.every = 1000


# Where `make distill-demo` puts the run of `mim/mae:teacher`, and what that trains.
TEACHER_RUN = "runs/distill/teacher"
TEACHER_SIZE = {"dim": 96, "depth": 6, "heads": 6, "mlp_ratio": 4.0}


def demo_teacher(config: ConfigDict, *, blocks: int = 0, name: str = "teacher"):
    """The group `config.model.<name>`: the MAE that a demo's student learns from (ours)."""
    teacher = config.model[name]
    size = TEACHER_SIZE
    teacher.file, teacher.name, teacher.blocks = TEACHER_RUN, "mae_b16", blocks
    changes = {"dim": size["dim"], "depth": size["depth"], "heads": size["heads"]}
    changes |= {"mlp_hidden": int(size["dim"] * size["mlp_ratio"]), "patch_size": 4}
    teacher.change = tuple(f"{key}={value}" for key, value in changes.items())


def tiny_teacher(config: ConfigDict, *, blocks: int = 0, name: str = "teacher"):
    """The group `config.model.<name>`: a small untrained teacher for 8x8 digits (ours)."""
    teacher = config.model[name]
    teacher.file, teacher.name, teacher.blocks = "random", "mae_b16", blocks
    sizes = ("dim=48", "depth=3", "heads=2", "mlp_hidden=96")
    teacher.change = (*sizes, "patch_size=2", "channels=1")


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
