"""What a frozen 2-D network sees in depth pictures of a point cloud, brought back to its points."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange, repeat
from jax import Array
from ml_collections import ConfigDict

from maskjax import options
from maskjax.masking import guided
from maskjax.method import Tree, require
from maskjax.nn.position import bicubic_weights
from maskjax.nn.sharding import constrain_batch
from maskjax.nn.teacher_vit import to_patches
from maskjax.pretext.teacher import Teacher, teacher
from maskjax.targets import pixels
from maskjax.targets.point_views import (
    AXES,
    PointView,
    depth_picture,
    fit_view,
    seen_from,
    values_at,
)

# (parameters, pictures float32[M, S, S, 3], standardised) -> features float[M, h, w, C] and
# saliency float[M, h, w] of their cells.
Look = Callable[[Tree, Array], tuple[Array, Array]]
NUM_VIEWS = len(AXES)


class Seen(NamedTuple):
    """Three views of the clouds of a batch, and what was seen in them.

    Attributes:
        views: how each picture lies on the cloud.
        pictures: float32[B, S, S] of each view, in 0..1.
        features: float32[B, h, w, C] of each view.
        saliency: float32[B, h, w] of each view.
    """

    views: list[PointView]
    pictures: list[Array]
    features: list[Array]
    saliency: list[Array]


@dataclasses.dataclass(frozen=True)
class PointSemantics:
    """The pictures of a cloud, through a 2-D network, and back. No gradient flows to the network.

    Attributes:
        look: the network.
        size: S, side of the pictures.
        mean, std: of the pixels that it wants, by channel.
    """

    look: Look
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, params: Tree, points: Array) -> Seen:
        """What the network sees of clouds float[B, N, 3]."""
        clouds = [seen_from(points, view) for view in range(NUM_VIEWS)]
        views = [fit_view(cloud, self.size) for cloud in clouds]
        pairs = zip(clouds, views, strict=True)
        pictures = [depth_picture(cloud, view, self.size) for cloud, view in pairs]
        # The views of a cloud stand side by side, so that they stay on its device.
        together = rearrange(jnp.stack(pictures, 1), "b v r c -> (b v) r c")
        together = repeat(together, "m r c -> m r c d", d=len(self.mean))
        together = constrain_batch(pixels.from_unit(together, self.mean, self.std))
        found = jax.lax.stop_gradient(self.look(jax.lax.stop_gradient(params), together))
        apart = (rearrange(x, "(b v) ... -> v b ...", v=NUM_VIEWS) for x in found)
        return Seen(views, pictures, *(list(x.astype(jnp.float32)) for x in apart))

    def saliency_at(self, seen: Seen, points: Array) -> Array:
        """float32[B, P]: the mean over the views at points float[B, P, 3] of the clouds."""
        return (
            sum(self._at([x[..., None] for x in seen.saliency], seen, points))[..., 0] / NUM_VIEWS
        )

    def features_at(self, seen: Seen, points: Array) -> Array:
        """float32[B, P, views * C]: features of each view at points float[B, P, 3], one after
        another."""
        return jnp.concatenate(self._at(seen.features, seen, points), -1)

    def _at(self, maps: list[Array], seen: Seen, points: Array) -> list[Array]:
        tables = tuple(bicubic_weights(cells, self.size) for cells in maps[0].shape[1:3])
        return [
            values_at(maps[view], seen_from(points, view), seen.views[view], tables)
            for view in range(NUM_VIEWS)
        ]


@dataclasses.dataclass(frozen=True)
class ViTLook:
    """A `Look` of a ViT: its patch tokens, projected if it has a projection (CLIP), and how much
    its class token attends to them in the last block."""

    teacher: Teacher

    def __call__(self, params: Tree, pictures: Array) -> tuple[Array, Array]:
        """See `Look`."""
        g = self.teacher.geometry
        last = lambda seen, _: guided.cls_attention(  # noqa: E731
            seen["attention"], num_prefix=g.prefix_tokens
        )
        patches = to_patches(pictures, g)
        out, seen = self.teacher(params, patches, probes={"saliency": last})
        tokens = out["projected"] if g.projection else out["tokens"]
        cells = "m (h w) ... -> m h w ..."
        rows = g.grid[0]
        return rearrange(tokens, cells, h=rows), rearrange(seen["saliency"][-1], cells, h=rows)

    @property
    def num_features(self) -> int:
        """C."""
        return self.teacher.geometry.projection or self.teacher.geometry.dim


def vit_look(cfg: ConfigDict) -> ViTLook:
    """The network that the group `teacher` of `config.model` names.

    Raises:
        UserError: naming the entry that does not fit.
    """
    what = "must be (): the pictures are standardised as config.model.mean and std say"
    for key in ("mean", "std"):
        require(not cfg.teacher[key], f"model.teacher.{key}", cfg.teacher[key], what)
    found = teacher(cfg)
    g, size = found.geometry, options.pair(cfg.image_size, "model.image_size")
    what = f"the pictures are of model.image_size = {size}"
    require(g.image_size == size, "model.teacher.image_size", g.image_size, what)
    what = "needs a class token, whose attention guides the masks"
    require(g.cls, "model.teacher.name", cfg.teacher.name, what)
    return ViTLook(found)


def teacher_flops(look: ViTLook) -> int:
    """Matmul FLOPs for one cloud."""
    return NUM_VIEWS * look.teacher.flops()
