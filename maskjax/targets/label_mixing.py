"""mixup and CutMix on the device: images and soft labels of neighbours in the batch.

Zhang, Cisse, Dauphin, Lopez-Paz, "mixup: Beyond empirical risk minimization", 2018. Yun, Han, Oh,
Chun, Choe, Yoo, "CutMix", 2019. The laws (one of the two by a coin, the share of CutMix corrected
to the area of the clipped box, smoothed labels) are those of timm's `mixup.py` in its mode "elem":
every example has a share, a coin and a box of its own. The recipes of DeiT and MAE use its mode
"batch", one draw for all examples of a batch, with the same law for each example.

The partner of row i is row i + stride in the first half of a block of 2 * stride rows, and row
i - stride in the second: a function of the row in the global batch, whatever the devices. Blocks
that lie on one device are mixed there; only a device with half a block exchanges it. A method that
mixes says ``together=2 * stride``, so that blocks stay whole in micro-batches too.
"""

import dataclasses

import chex
import einops
import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jax import Array

from maskjax.errors import UserError
from maskjax.masking import Draws

_QUANTILES = 4097


@dataclasses.dataclass(frozen=True)
class Mixing:
    """How examples are mixed; the defaults are those of fine-tuning in MAE.

    Attributes:
        mixup: the share of an example is Beta(mixup, mixup); 0 = never mixup.
        cutmix: the share kept by CutMix is Beta(cutmix, cutmix); 0 = never CutMix.
        prob: share of the examples that are mixed at all.
        switch_prob: share of CutMix among them if both are on.
        stride: distance of partners; the number of views where rows in a row show the same image,
            which else would be mixed with itself.

    Raises:
        UserError: a value is out of range.
    """

    mixup: float = 0.8
    cutmix: float = 1.0
    prob: float = 1.0
    switch_prob: float = 0.5
    stride: int = 1

    def __post_init__(self):
        if min(self.mixup, self.cutmix) < 0:
            raise UserError(f"mixup and cutmix must not be negative: {self.mixup}, {self.cutmix}")
        if not 0 <= self.prob <= 1 or not 0 <= self.switch_prob <= 1:
            raise UserError(
                f"prob and switch_prob must be in 0 .. 1, found {self.prob}, {self.switch_prob}"
            )
        if self.stride < 1:
            raise UserError(f"stride must be at least 1, found {self.stride}")


def soft_labels(labels: Array, num_classes: int, smoothing: float = 0.0) -> Array:
    """int[B] -> float32[B, num_classes]: 1 - smoothing at the label, smoothing spread over all.

    Szegedy et al., "Rethinking the Inception architecture for computer vision", 2016, section 7.
    """
    return jax.nn.one_hot(labels, num_classes) * (1 - smoothing) + smoothing / num_classes


def partners(x: Array, stride: int = 1) -> Array:
    """x [B, ...] -> [B, ...]: for each row its partner, which is its own partner's partner.

    Raises:
        UserError: unless 2 * stride divides B.
    """
    if len(x) % (2 * stride):
        raise UserError(
            f"mixing pairs rows at a distance of {stride}: the batch must be a multiple of"
            f" {2 * stride}, found {len(x)}"
        )
    blocks = einops.rearrange(x, "(b two s) ... -> b two s ...", two=2, s=stride)
    return einops.rearrange(blocks[:, ::-1], "b two s ... -> (b two s) ...")


def mix(
    images: Array, targets: Array, draws: Draws, mixing: Mixing = Mixing()
) -> tuple[Array, Array]:
    """Mixes every example with its partner, by a share of its own.

    Args:
        images: float[B, H, W, C], in any units: mixing commutes with normalisation.
        targets: float[B, K], from ``soft_labels``.
        draws: the streams "mixing/..." are used; an example's numbers depend on its position only.
        mixing: the law.

    Returns:
        images float[B, H, W, C] and targets float32[B, K] = share * own + (1 - share) * partner's.

    Raises:
        UserError: see ``partners``.
    """
    chex.assert_rank([images, targets], [4, 2])
    chex.assert_type([images, targets], float)
    height, width = images.shape[1:3]
    share, cut = shares(draws, mixing)
    inside, area = cut_boxes(draws, share, (height, width))
    inside &= cut[:, None, None]
    share = jnp.where(cut, 1 - area, share)
    other = partners(images, mixing.stride)
    # Where CutMix is drawn, pixels are one or the other; else all are blended.
    own = jnp.where(cut[:, None, None], ~inside, share[:, None, None])[..., None]
    own = own.astype(images.dtype)
    mixed = images * own + other * (1 - own)
    weight = share[:, None]
    return mixed, targets * weight + partners(targets, mixing.stride) * (1 - weight)


def shares(draws: Draws, mixing: Mixing) -> tuple[Array, Array]:
    """What each example keeps, float32[B] in [0, 1], and whether by CutMix, bool[B].

    CutMix's share is that before the box is clipped at the border. Both are drawn, always, so that
    one setting does not change what the other does.
    """
    applied = draws.uniform("mixing/applied") < mixing.prob
    cut = draws.uniform("mixing/switch") < mixing.switch_prob
    if not (mixing.mixup and mixing.cutmix):
        cut = jnp.full_like(cut, bool(mixing.cutmix))
    blend = _beta(draws.uniform("mixing/mixup"), mixing.mixup)
    box = _beta(draws.uniform("mixing/cutmix"), mixing.cutmix)
    return jnp.where(applied, jnp.where(cut, box, blend), 1.0), cut & applied


def _beta(uniform: Array, a: float) -> Array:
    """Uniform numbers -> Beta(a, a), by a table of quantiles; 1 if a is 0.

    `jax.random.beta` rejects in a loop, which on a sharded batch asks all devices, round by round,
    whether any example is still without a number.
    """
    if not a:
        return jnp.ones_like(uniform)
    table = scipy.special.betaincinv(a, a, np.linspace(0, 1, _QUANTILES)).astype(np.float32)
    at = uniform * (_QUANTILES - 1)
    low = jnp.floor(at).astype(jnp.int32)
    below, above = jnp.asarray(table)[low], jnp.asarray(table)[low + 1]
    return below + (at - low) * (above - below)


def cut_boxes(draws: Draws, share: Array, size: tuple[int, int]) -> tuple[Array, Array]:
    """Boxes of the image's shape with an area of 1 - share, around a uniform centre, clipped.

    Args:
        draws: the stream "mixing/centre" is used.
        share: float32[B] in [0, 1].
        size: (height, width) of the images.

    Returns:
        inside bool[B, H, W] (True = in the box), and the share of the image that it covers,
        float32[B].
    """
    centre = draws.uniform("mixing/centre", (2,))
    inside, covered = [], []
    for axis, length in enumerate(size):
        middle = jnp.floor(centre[:, axis] * length)
        side = jnp.floor(length * jnp.sqrt(1 - share))
        low = jnp.maximum(middle - side // 2, 0)
        high = jnp.minimum(middle + (side + 1) // 2, length)
        at = jnp.arange(length)
        inside.append((at >= low[:, None]) & (at < high[:, None]))
        covered.append((high - low) / length)
    return inside[0][:, :, None] & inside[1][:, None, :], covered[0] * covered[1]
