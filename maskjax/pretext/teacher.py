"""A frozen ViT that looks at the images of a batch: what its layers saw is a target, or a mask."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from maskjax import masking, options
from maskjax.masking import guided
from maskjax.method import Tree, require
from maskjax.nn import flops
from maskjax.nn.geometry import Geometry
from maskjax.nn.position import bicubic
from maskjax.nn.stack import Probe
from maskjax.nn.teacher_vit import TeacherViT, VariantEncoder, to_patches
from maskjax.nn.teachers import CLIP_PIXELS
from maskjax.nn.vit import Compute, Size
from maskjax.targets import pixels

Stats = tuple[tuple[float, ...], tuple[float, ...]]


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A frozen encoder, for one configuration; its parameters are the method's `extra`.

    Attributes:
        geometry: of its files; the parameters have all its blocks.
        compute: dtype, scan, attention.
        student: mean and std by channel of the batches' images, for pixel values in 0..1.
        own: mean and std that the teacher wants.
    """

    geometry: Geometry
    compute: Compute
    student: Stats
    own: Stats

    def init(self, key: Array) -> Tree:
        """Untrained parameters, to be filled from a file."""
        g = self.geometry
        return self._model(0).init(key, jnp.zeros((1, g.num_patches, g.patch_values)))["params"]

    @property
    def num_patches(self) -> int:
        """N, of the images it sees."""
        return self.geometry.num_patches

    def patches(self, image: Array) -> Array:
        """Images [B, H, W, C] of a batch -> its standardised patches float32[B, N, P], raster.

        Images of another size than the teacher's are resized (bicubic, as torch's `interpolate`).
        """
        size = self.geometry.image_size
        image = pixels.restandardize(image, *self.student, *self.own)
        if image.shape[1:3] != size:
            image = bicubic(image, size)
        return to_patches(image, self.geometry)

    def __call__(
        self,
        params: Tree,
        patches: Array,
        ids: Array | None = None,
        *,
        taps: Sequence[str] = (),
        blocks: int = 0,
        probes: Mapping[str, Probe] | None = None,
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """What `TeacherViT` gives for patches [B, K, P]: ({"tokens", "cls", ...}, taps).

        No gradient flows to the parameters.

        Args:
            params: of all its blocks.
            patches: as `patches` gives them, all or those at `ids`.
            ids: int[B, K], which patch of the grid each one is; None = all, in raster order.
            taps: see `TeacherViT`.
            blocks: only so many blocks run, and no final norm; 0 = all.
            probes: of the block stack (see `Stack`); what they give comes with the taps.
        """
        params = jax.lax.stop_gradient(params)
        if blocks:
            params = self._first(params, blocks)
        options = {"taps": taps, "probes": probes}
        return self._model(blocks).apply({"params": params}, patches, ids, **options)

    def embed(self, params: Tree, patches: Array) -> Array:
        """Its patch embeddings, before positions: patches [B, K, P] -> [B, K, D]; no gradient."""
        encoder = VariantEncoder(self.geometry, self.compute)
        variables = {"params": jax.lax.stop_gradient(params["encoder"])}
        return encoder.apply(variables, patches, method="embed")

    def _model(self, blocks: int) -> TeacherViT:
        g = self.geometry
        if blocks:
            first = {"depth": blocks, "final_norm": False, "pool": "none", "num_classes": 0}
            g = dataclasses.replace(g, **first, projection=0)
        return TeacherViT(g, self.compute)

    def _first(self, params: Tree, blocks: int) -> Tree:
        """Only what the first blocks need."""
        encoder = {name: leaf for name, leaf in params["encoder"].items() if name != "norm"}
        encoder["blocks"] = jax.tree.map(lambda leaf: leaf[:blocks], encoder["blocks"])
        return {"encoder": encoder}

    def saliency(self, seen: Mapping[str, Array]) -> Array:
        """float32[B, N]: how much its last block's class token attends to each patch.

        `seen` holds the tap "attention/-1".
        """
        front = self.geometry.prefix_tokens
        return guided.cls_attention(seen["attention/-1"], num_prefix=front)

    def pick(self, tokens: Array, ids: Array | None, *, cls: bool = False) -> Array:
        """Of [..., E + N, D], as taps have them: the patches at `ids`, the class token in front.

        Args:
            tokens: E tokens in front, then all patches in raster order; leading axes as of `ids`.
            ids: int[..., K]; None = all.
            cls: whether the class token comes too.
        """
        patches = tokens[..., self.geometry.prefix_tokens :, :]
        patches = patches if ids is None else masking.tokens.gather(patches, ids)
        return jnp.concatenate([tokens[..., :1, :], patches], -2) if cls else patches

    def flops(self, num_tokens: int = 0, blocks: int = 0) -> int:
        """Matmul FLOPs for one image.

        Args:
            num_tokens: of the patches that it sees; 0 = all.
            blocks: see `__call__`.
        """
        g, num = self.geometry, num_tokens or self.num_patches
        size = Size(g.dim, blocks or g.depth, g.heads, g.mlp_hidden / g.dim)
        embed = flops.linear(num, g.patch_values, g.dim)
        return embed + flops.transformer(num + g.prefix_tokens, size)


def teacher(cfg: ConfigDict, name: str = "teacher", grid: tuple[int, int] | None = None) -> Teacher:
    """The teacher that the group `name` of `config.model` (entries of `options.TEACHER`) says.

    Args:
        cfg: `config.model`; image_size, channels, mean, std and how to compute are read too.
        name: of the group.
        grid: (rows, columns) that its patches must have; None = any.

    Raises:
        UserError: naming the entry that does not fit.
    """
    group, path = cfg[name], f"model.{name}"
    geometry = options.teacher_geometry(
        group, path, options.pair(cfg.image_size, "model.image_size")
    )
    what = f"it sees {geometry.channels} channels, the images have {cfg.channels}"
    require(geometry.channels == cfg.channels, f"{path}.change", tuple(group.change), what)
    if grid is not None:
        what = f"gives it {geometry.grid} patches of {geometry.patch_size} pixels; it needs {grid}"
        require(geometry.grid == grid, f"{path}.image_size", geometry.image_size, what)
    student = (tuple(cfg.mean), tuple(cfg.std))
    clip = group.name.startswith("clip") and cfg.channels == len(CLIP_PIXELS[0])
    own = CLIP_PIXELS if clip else student
    if group.mean or group.std:
        own = (tuple(group.mean), tuple(group.std))
        for key, values in zip(("mean", "std"), own, strict=True):
            fits = len(values) == cfg.channels
            require(fits, f"{path}.{key}", values, f"needs {cfg.channels} channels")
    compute = dataclasses.replace(options.compute(cfg), remat="none")
    return Teacher(geometry, compute, student, own)
