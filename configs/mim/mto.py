r"""MTO on SimMIM or CAE: masked token optimisation (Choi et al., ECCV 2024), as we reconstruct it.

    maskjax train --config=configs/mim/mto.py:b16 --workdir=DIR \
      --config.data.path=folder:/data/imagenet

With "cae_" in front (cae_b16) the host is CAE: its regressor's queries are mask tokens only, so two
of the three losses apply, and the recalibration of attention does not.

The paper's equations are not known to us: everything under `model.mto` is ours, chosen to meet the
paper's stated aims, and so no figure of the paper applies. It claims the host's accuracy in about
half of the epochs; these variants train half as long as the host's to test that. The host's values
and their sources are in simmim.py and cae.py.
"""

from maskjax.configs import common
from maskjax.configs.mim import cae, simmim


def get_config(arg: str = "b16"):
    """The experiment `arg`: tiny, demo, b16, l16, or cae_ and one of these."""
    names = ("tiny", "demo", "b16", "l16")
    hosts = {"": simmim, "cae_": cae}
    variants = {f"{prefix}{n}": (host, n) for prefix, host in hosts.items() for n in names}
    host, name = common.variant(arg, variants)
    config = host.get_config(name)
    config.model.mto.on = True
    if config.train.epochs:
        config.train.epochs /= 2
    return config
