r"""MTO on SimMIM: masked token optimisation (Choi et al., ECCV 2024), as we reconstruct it.

    maskjax train --config=configs/mim/mto.py:b16 --workdir=DIR \
      --config.data.path=folder:/data/imagenet

The paper's equations are not known to us: everything under `model.mto` is ours, chosen to meet the
paper's stated aims, and so no figure of the paper applies. It claims the host's accuracy in about
half of the epochs; these variants train half as long as SimMIM's to test that. The host's values
and their sources are in simmim.py.
"""

from maskjax.configs import common
from maskjax.configs.mim import simmim


def get_config(arg: str = "b16"):
    """The experiment `arg`: tiny, demo, b16 or l16."""
    common.variant(arg, dict.fromkeys(("tiny", "demo", "b16", "l16")))
    config = simmim.get_config(arg)
    config.model.mto.on = True
    if config.train.epochs:
        config.train.epochs /= 2
    return config
