r"""dVAE, the tokenizer of DALL-E (Ramesh et al., ICML 2021): train one, then pretrain CAE with it.

    maskjax train --config=configs/generate/dvae.py:demo --workdir=runs/dvae
    maskjax train --config=configs/mim/cae.py:demo --workdir=runs/cae \
      --config.model.tokenizer.file=runs/dvae

Sources: "code" is the released networks, which come without a training loop; "paper" is its
appendix A, from memory: check it before a long run. What is marked "ours" no source says. No figure
at scale is known.
"""

from maskjax.configs import common


def get_config(arg: str = "dalle"):
    """The experiment `arg`: tiny, demo or dalle."""
    config = common.experiment("generate.dvae")
    config.optim.name = "adamw"
    config.optim.b1 = 0.9  # paper
    config.optim.b2 = 0.999  # paper
    config.optim.weight_decay = 1e-4  # paper
    config.evaluate.evaluators = ("reconstruction", "held_out", "knn", "linear_probe")
    common.variant(arg, {"tiny": tiny, "demo": demo, "dalle": dalle})(config)
    return config


def tiny(config):
    """Seconds on a CPU: for tests and a first look (ours); tokens of 2 x 2 pixels of digits."""
    common.small(config)
    common.embedded(config, "digits", image_size=8, channels=1)
    sizes(config, vocab=16, width=8, groups=2, blocks=1)
    config.train.steps = 60
    config.train.log_every = 10
    config.optim.warmup_steps = 5
    config.checkpoint.every = 30


def demo(config):
    """Minutes on two CPU cores (ours): a token for each 4 x 4 patch of CAE's demo."""
    common.small(config)
    common.embedded(config, "photo_crops", image_size=32, channels=3)
    sizes(config, vocab=256, width=16, groups=3, blocks=1)
    config.train.steps = 1200
    config.optim.warmup_steps = 60
    config.checkpoint.every = 400
    config.model.temperature_steps = 800


def sizes(config, vocab: int, width: int, groups: int, blocks: int):
    """Sizes of a small model, and a schedule for it."""
    config.model.vocab, config.model.width = vocab, width
    config.model.groups, config.model.blocks = groups, blocks
    config.model.kl_weight = 0.0
    config.model.marginal_weight = 5.0


def dalle(config):
    """The published model: 8192 tokens of 8 x 8 pixels, at 256 px."""
    common.imagenet(config, global_batch=512, epochs=0)  # paper; its own 250M images
    config.train.steps = 3_000_000  # paper
    config.model.kl_weight = 6.6  # paper
    config.model.kl_steps = 5000  # paper
    config.model.temperature_steps = 150_000  # paper
    config.model.dtype = "bfloat16"  # ours; the paper mixes float16
    config.optim.lr = 1e-4  # paper
    config.optim.min_lr = 1.25e-6  # paper, reached after 1.2M steps; here at the end
    config.optim.ema = 0.999  # paper
