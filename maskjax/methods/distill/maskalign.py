"""MaskAlign: what a student makes of a few patches, aligned with what a teacher makes of all.

Xue, Gao, Li, Qiao, Sun, Li, Luo, "Stare at What You See: Masked Image Modeling without
Reconstruction", CVPR 2023, with the details of the official code. There is no decoder and no mask
token: the student sees the visible patches only, a frozen teacher (CLIP) the whole image. A learned
matrix mixes the student's blocks for each of the teacher's, a linear head brings them to its width,
and they are compared at the visible patches. Where the teacher looks tends to stay visible.
"""

import dataclasses
from collections.abc import Hashable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from maskjax import losses, masking, options
from maskjax.losses import Term
from maskjax.losses.feature import DISTANCES, Distance
from maskjax.masking import Draws, TokenSplit, guided
from maskjax.method import Aux, Batch, Method, Phase, Schedule, Terms, Tree, require
from maskjax.nn import flops
from maskjax.nn.aligned_student import FUSIONS, AlignedStudent
from maskjax.nn.feature_heads import KINDS, FeatureHead, FeatureHeads
from maskjax.nn.geometry import SINCOS
from maskjax.nn.vit import SIZES, layer_ids
from maskjax.pretext import masked_autoencoder
from maskjax.pretext.outputs import features
from maskjax.pretext.teacher import Teacher, teacher
from maskjax.targets.features import NORMS, Norm, normalized
from maskjax.targets.patch_pixels import PatchPixels

# CLIP's ViT-B/16 teaches ViT-B/16, as released.
DEFAULTS = {
    **options.IMAGE,
    "encoder": dataclasses.asdict(SIZES["b"]),
    "mask_ratio": 0.7,
    "mask": "attention",  # of the teacher's last class token, as sampling weights; or random
    "drop_path": 0.1,  # of the student's last block
    "teacher": {**options.TEACHER, "name": "clip_b16", "blocks": 12},
    "fusion": "linear",  # of the student's blocks; sum: depths may differ; simple: none
    "target_norm": "whiten",  # or none, l2, bn
    "layer_weights": "top5",  # of the teacher's blocks; topK, mean, out, linear_decay, midK
    "distance": "smooth_l1",  # counted twice, as in the code; or l1, l2
    "head": "linear",  # or norm_linear, mlp, mlp_norm
    "position": "sincos",
    "norm_eps": 1e-6,
    **options.COMPUTE,
}


@dataclasses.dataclass(frozen=True)
class MaskAlign:
    """The functions of the method, over one configuration.

    Attributes:
        model: the student.
        pixels: patches and inputs.
        num_visible: K.
        teacher: of the whole image.
        weights: of the teacher's blocks.
        attentive: whether its attention draws the mask.
        norm: of the targets.
        distance: of the features.
    """

    model: AlignedStudent
    pixels: PatchPixels
    num_visible: int
    teacher: Teacher
    weights: tuple[float, ...]
    attentive: bool
    norm: Norm
    distance: Distance

    def init(self, key: Array, batch: Batch) -> tuple[Tree, Tree]:
        """(params, {"teacher": its parameters, from the file later})."""
        ids = jnp.arange(self.num_visible, dtype=jnp.int32)[None]
        visible = self.pixels.patches(batch["image"][:1])[:, : self.num_visible]
        params = self.model.init(key, self.pixels.standardize(visible), ids, (0,))["params"]
        return params, {"teacher": self.teacher.init(jax.random.fold_in(key, 1))}

    def loss(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws, step: Array, static: Hashable
    ) -> tuple[Terms, Aux]:
        """Weighted sum over the teacher's blocks of the mean distance at cls and visible patches.

        Blocks of weight 0 are not compared: their heads are not run.
        """
        rows = tuple(row for row, weight in enumerate(self.weights) if weight)
        split, seen = self.look(extra, batch, draws, rows)
        visible = masking.tokens.gather(self.pixels.patches(batch["image"]), split.visible_ids)
        visible, noise = self.pixels.standardize(visible), None
        if self.model.drop_path:
            noise = draws.uniform("drop_path", (self.model.encoder_size.depth, 2))
        shown, _ = self.model.apply({"params": params}, visible, split.visible_ids, rows, noise)
        targets = [self.target(seen[f"block/{row}"], split) for row in rows]
        apart = [
            losses.feature_error(x, target, self.distance)
            for x, target in zip(shown, targets, strict=True)
        ]
        total = sum(self.weights[row] * x.sum() for row, x in zip(rows, apart, strict=True))
        # The code's smooth L1 is twice the usual one: d^2 where |d| < 1.
        twice = 2.0 if self.distance == "smooth_l1" else 1.0
        return {"alignment": Term(total, apart[0].size, twice)}, {}

    def look(
        self, extra: Tree, batch: Batch, draws: Draws, rows: Sequence[int]
    ) -> tuple[TokenSplit, dict[str, Array]]:
        """The mask, and what the teacher's blocks make of the whole image, without gradient."""
        patches = jax.lax.stop_gradient(self.teacher.patches(batch["image"]))
        taps = tuple(f"block/{row}" for row in rows)
        taps += ("attention/-1",) if self.attentive else ()
        _, seen = self.teacher(extra["teacher"], patches, taps=taps)
        shape, num_visible = (self.pixels.num_tokens,), self.num_visible
        if self.attentive:
            noise = draws.sample("mask", shape, lambda key: jax.random.exponential(key, shape))
            importance = self.teacher.saliency(seen)
            return guided.sampled(noise, importance, num_visible=num_visible), seen
        noise = draws.uniform("mask", shape)
        return masking.random(noise, self.pixels.grid, num_visible=num_visible), seen

    def target(self, block: Array, split: TokenSplit) -> Array:
        """A teacher's block [B, E + N, D] -> its normalised cls and visible patches [B, 1 + K, D].

        Normalised before the choice, which matters where the moments are those of all tokens.
        """
        return self.teacher.pick(normalized(block, self.norm), split.visible_ids, cls=True)

    def encode(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """Features of whole images: cls, mean of patch tokens, all tokens (raster, no cls).

        After a final norm that was never trained: it stands as it began.
        """
        patches = self.pixels.standardize(self.pixels.patches(batch["image"]))
        return features(self.model.apply({"params": params}, patches, method="encode"))

    def gaze(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """Where the teacher looks: "hidden" and "importance" [B, N], on the "original" images."""
        split, seen = self.look(extra, batch, draws, ())
        raw = self.pixels.standardize(self.pixels.patches(batch["image"]))
        return {
            "original": self.pixels.picture(raw, raw),
            "hidden": split.hidden(),
            "importance": self.teacher.saliency(seen),
        }

    def activations(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """Everything between input and loss, for all L of the teacher's blocks, without drop-path.

        "teacher_pixels" [B, H, W, C] as it gets them, "teacher_blocks" [B, L, E + N, D'];
        "importance" [B, N] and "attention" [B, heads, E + N, E + N] of its last block, if the mask
        is drawn by them; "blocks" [B, depth, 1 + K, D] of the student, "aligned" and "target"
        [B, L, 1 + K, D'], in the order of "ids" [B, N], of which the first K are visible.
        """
        rows = tuple(range(len(self.weights)))
        split, seen = self.look(extra, batch, draws, rows)
        visible = masking.tokens.gather(self.pixels.patches(batch["image"]), split.visible_ids)
        visible = self.pixels.standardize(visible)
        shown, blocks = self.model.apply({"params": params}, visible, split.visible_ids, rows)
        taught = [seen[f"block/{row}"] for row in rows]
        side = self.teacher.geometry.patch_size
        patches = self.teacher.patches(batch["image"])
        found = {
            "teacher_pixels": masking.unpatchify(patches, self.pixels.grid, (side, side)),
            "teacher_blocks": jnp.stack(taught, 1),
            "blocks": jnp.moveaxis(blocks, 0, 1),
            "aligned": jnp.stack(shown, 1),
            "target": jnp.stack([self.target(block, split) for block in taught], 1),
            "ids": split.ids,
            "hidden": split.hidden(),
        }
        if self.attentive:
            found["attention"] = seen["attention/-1"]
            found["importance"] = self.teacher.saliency(seen)
        return found


def layer_weights(law: str, depth: int) -> tuple[float, ...]:
    """Weights of the teacher's blocks, by the names of the official code.

    "mean", 1 / L each; "out", the last one only; "linear_decay", proportional to 0, 1, ..., L - 1;
    "topK", 1 / K on the last K; "midK", block K (counted from 0) only.

    Raises:
        UserError: for another name, or a number outside the teacher's blocks.
    """
    number = law[3:]
    if law == "mean":
        weights = np.ones(depth)
    elif law == "out":
        weights = np.arange(depth) == depth - 1
    elif law == "linear_decay" and depth > 1:
        weights = np.arange(depth)
    elif law.startswith("top") and number.isdigit() and 1 <= int(number) <= depth:
        weights = np.arange(depth) >= depth - int(number)
    elif law.startswith("mid") and number.isdigit() and int(number) < depth:
        weights = np.arange(depth) == int(number)
    else:
        what = f"mean, out, linear_decay, top1..top{depth} or mid0..mid{depth - 1}"
        require(False, "model.layer_weights", law, what)
    return tuple((weights / weights.sum()).tolist())


def build(cfg: ConfigDict, example: Batch, schedule: Schedule) -> Method:
    """MaskAlign from `config.model`.

    Raises:
        UserError: for sizes, ratios, names or data that do not fit each other.
    """
    grid, patch = options.patch_grid(cfg)
    options.check_pixels(cfg, example)
    _check(cfg)
    size, large = options.size(cfg.encoder, "model.encoder"), teacher(cfg, grid=grid)
    require(large.geometry.cls, "model.teacher.change", tuple(cfg.teacher.change), "needs cls=true")
    depth, width = large.geometry.depth, large.geometry.dim
    what = f"the student has {size.depth} blocks, the teacher {depth}; take sum"
    require(cfg.fusion == "sum" or size.depth == depth, "model.fusion", cfg.fusion, what)
    dtype, eps = options.dtype(cfg), cfg.norm_eps
    head = FeatureHead(cfg.head, width, size.dim, eps, dtype, parent=None)
    model = AlignedStudent(
        size,
        grid,
        patch[0] * patch[1] * cfg.channels,
        options.compute(cfg),
        cfg.position,
        eps,
        cfg.drop_path,
        cfg.fusion,
        FeatureHeads(head, depth),
    )
    align = MaskAlign(
        model,
        PatchPixels(grid, patch, False, tuple(cfg.mean), tuple(cfg.std)),
        options.visible_tokens(cfg.mask_ratio, grid[0] * grid[1]),
        large,
        layer_weights(cfg.layer_weights, depth),
        cfg.mask == "attention",
        cfg.target_norm,
        cfg.distance,
    )
    names = ("encode", "activations", *(("gaze",) if align.attentive else ()))
    return Method(
        align.init,
        (Phase(align.loss),),
        {name: getattr(align, name) for name in names},
        load={"extra/teacher": "model.teacher"},
        groups=(("^mix$", "no_decay"),),
        layers=layer_ids(size.depth),
        coupled=cfg.target_norm == "bn",
        describe=masked_autoencoder.facts(cfg),
        step_flops=3 * _forward_flops(align) + large.flops(),
    )


def _check(cfg: ConfigDict):
    for key, known in (
        ("mask", ("attention", "random")),
        ("fusion", FUSIONS),
        ("target_norm", NORMS),
        ("distance", DISTANCES),
        ("head", KINDS),
        ("position", tuple(SINCOS)),
    ):
        require(cfg[key] in known, f"model.{key}", cfg[key], f"one of {', '.join(known)}")
    require(0 <= cfg.drop_path < 1, "model.drop_path", cfg.drop_path, "must lie in [0, 1)")
    require(cfg.norm_eps > 0, "model.norm_eps", cfg.norm_eps, "must be positive")


def _forward_flops(align: MaskAlign) -> float:
    """The student's blocks, their mixing and the heads that are run, for one image."""
    model, num = align.model, align.num_visible
    size, rows = model.encoder_size, sum(weight > 0 for weight in align.weights)
    mixing = flops.linear((num + 1) * size.dim, size.depth, rows) * (model.fusion != "simple")
    return (
        flops.linear(num, model.patch_dim, size.dim)
        + flops.transformer(num + 1, size)
        + mixing
        + rows * model.heads.flops(num + 1, size.dim)
    )
