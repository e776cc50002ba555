"""A frozen ViT that gives a student its targets; its weights come through `Method.load`."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import Array
from ml_collections import ConfigDict

from maskjax import masking, options
from maskjax.method import Tree, require
from maskjax.nn import flops
from maskjax.nn.geometry import Geometry
from maskjax.nn.position import resize_table
from maskjax.nn.teacher_vit import TeacherViT, to_patches
from maskjax.nn.teachers import teacher_pixels
from maskjax.nn.vit import Size
from maskjax.targets import pixels

Moments = tuple[tuple[float, ...], tuple[float, ...]]


@dataclasses.dataclass(frozen=True)
class FrozenTeacher:
    """A teacher that looks at a student's images, whole or in part. No gradient flows to it.

    Attributes:
        model: the network; with `options.TEACHER`'s `blocks` only its first ones.
        student: mean and standard deviation of the pixels in the student's units, in which batches
            of floats are.
        own: those of the teacher's.
    """

    model: TeacherViT
    student: Moments
    own: Moments

    @property
    def geometry(self) -> Geometry:
        """Sizes and options of the network."""
        return self.model.geometry

    def init(self, key: Array) -> Tree:
        """Untrained parameters; `train` fills them from the file."""
        g = self.geometry
        patches = jnp.zeros((1, g.num_patches, g.patch_values), jnp.float32)
        return self.model.init(key, patches)["params"]

    def __call__(
        self, params: Tree, images: Array, ids: Array | None = None, *, taps: Sequence[str] = ()
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """What `TeacherViT` gives for these images, without gradient.

        Args:
            params: as `init` makes them.
            images: [B, H, W, C] of the student's size.
            ids: int[B, K], the patches it sees; None = all. With relative positions only None.
            taps: of `TeacherViT`; "block" holds the tokens in front of the patches, too.
        """
        patches = to_patches(self._resized(images), self.geometry)
        if ids is not None:
            patches = masking.tokens.gather(patches, ids)
        params, patches = jax.lax.stop_gradient((params, self._standardized(patches)))
        return self.model.apply({"params": params}, patches, ids, taps=taps)

    def view(self, images: Array) -> Array:
        """The images as the teacher gets them: its size, its units, float32[B, h, w, C]."""
        return self._standardized(self._resized(images))

    def forward_flops(self, num_patches: int) -> int:
        """Matmul FLOPs of a forward pass over so many patches of one image."""
        g = self.geometry
        size = Size(g.dim, g.depth, g.heads, g.mlp_hidden / g.dim)
        gates = flops.linear(num_patches + g.prefix_tokens, g.dim, g.mlp_hidden) * g.depth
        return (
            flops.linear(num_patches, g.patch_values, g.dim)
            + flops.transformer(num_patches + g.prefix_tokens, size)
            + (gates if g.mlp == "swiglu" else 0)
        )

    def _resized(self, images: Array) -> Array:
        """To the teacher's size, bicubic as torch's `interpolate` without antialiasing."""
        old, new = images.shape[1:3], self.geometry.image_size
        if old == new:
            return images
        values = rearrange(pixels.standardize(images, *self.student), "b h w c -> b (h w) c")
        smaller = jax.vmap(lambda table: resize_table(table, old, new))(values)
        return rearrange(smaller, "b (h w) c -> b h w c", h=new[0])

    def _standardized(self, values: Array) -> Array:
        return pixels.restandardize(values, *self.student, *self.own)


def frozen_teacher(cfg: ConfigDict, name: str = "teacher") -> FrozenTeacher:
    """The teacher that the group `name` of `config.model` (entries: `options.TEACHER`) describes.

    Raises:
        UserError: if it does not fit the student: other channels, another patch grid.
    """
    group, path = cfg[name], f"model.{name}"
    image = options.pair(cfg.image_size, "model.image_size")
    geometry = options.teacher_geometry(group, path, image)
    channels = geometry.channels == cfg.channels
    what = f"the student has model.channels = {cfg.channels}, the teacher {geometry.channels}"
    require(channels, f"{path}.change", tuple(group.change), what)
    grid, _ = options.patch_grid(cfg)
    what = f"gives a patch grid {geometry.grid}, the student's is {grid}"
    require(geometry.grid == grid, f"{path}.image_size", geometry.image_size, what)
    student = (tuple(cfg.mean), tuple(cfg.std))
    published = teacher_pixels(group.name) or student
    own = (tuple(group.mean) or published[0], tuple(group.std) or published[1])
    for key, values in zip(("mean", "std"), own, strict=True):
        fits = len(values) == cfg.channels and (key == "mean" or min(values) > 0)
        require(fits, f"{path}.{key}", values, f"needs {cfg.channels} channels, std above 0")
    compute = dataclasses.replace(options.compute(cfg), remat="none")
    return FrozenTeacher(TeacherViT(geometry, compute), student, own)
