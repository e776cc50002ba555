r"""A classifier that can be run on a visible region (Balasubramanian and Feizi, ICCV 2023).

    maskjax train --config=configs/explain/layer_masking.py:demo --workdir=DIR
    maskjax explain --workdir=DIR --method=lime --masking=layer --image=cat.jpg --out=lime.png
    maskjax import --config=explain/layer_masking:r50 --file=resnet50.safetensors --out=DIR

The training is ordinary classification and not the paper's, which takes networks as they are: r50
and convnext_t have the sizes of torchvision's and timm's files, to be read by `maskjax import`.
"""

import dataclasses

from maskjax.configs import common

from maskjax.nn.vit import Size


def get_config(arg: str = "r50"):
    """The experiment `arg`: tiny, demo, demo_mnist (both also with _vit), r50, convnext_t."""
    config = common.experiment("explain.layer_masking")
    config.optim.name = "adamw"
    config.optim.weight_decay = 0.05
    config.evaluate.evaluators = ("knn", "linear_probe")
    variants = {
        "tiny": tiny,
        "demo": demo,
        "demo_vit": lambda config: small_vit(config, demo),
        "demo_mnist": demo_mnist,
        "demo_mnist_vit": lambda config: small_vit(config, demo_mnist),
        "r50": r50,
        "convnext_t": convnext_t,
    }
    common.variant(arg, variants)(config)
    return config


def small(config, classes: int, widths: tuple[int, ...]):
    """A small ResNet without a pool behind its stem (ours)."""
    config.model.num_classes = classes
    config.model.resnet = {
        "stem": 16,
        "widths": widths,
        "blocks": (1,) * len(widths),
        "expansion": 4,
        "stem_stride": 2,
        "stem_pool": False,
    }


def tiny(config):
    """Seconds on a CPU: for tests and a first look (ours)."""
    common.tiny(config)
    small(config, 10, (4, 8))
    config.model.resnet.stem_stride = 1


def demo(config):
    """Minutes on two CPU cores (ours): crops of photographs by the photograph they are from."""
    common.demo(config, steps=1500)
    small(config, 18, (16, 32, 32))


def demo_mnist(config):
    """The same on handwritten digits (ours), whose strokes are objects that can be hidden."""
    demo(config)
    common.embedded(config, "mnist5k", image_size=28, channels=1)
    small(config, 10, (16, 32))
    config.train.steps = 800


def small_vit(config, data):
    """A ViT on the same data, whose tokens can be left out (ours)."""
    data(config)
    config.model.backbone = "vit"
    config.model.patch_size = (4, 4)
    config.model.encoder = dataclasses.asdict(Size(64, 4, 4, 2.0))


def r50(config):
    """ResNet-50 as torchvision has it; the recipe is nobody's, train with one of your own."""
    common.imagenet(config, global_batch=1024, epochs=90)
    config.optim.base_lr = 2.5e-4
    config.optim.warmup_epochs = 5.0


def convnext_t(config):
    """ConvNeXt-T as timm has it."""
    r50(config)
    config.model.backbone = "convnext"
    config.model.convnext.widths = (96, 192, 384, 768)
    config.model.convnext.blocks = (3, 3, 9, 3)
