"""DMAE: a student learns MAE's task and the features of a larger MAE, from visible patches only.

Bai, Wang, Xiao, Wei, Wang, Yuille, Zhou, Xie, "Masked Autoencoders Enable Efficient Knowledge
Distillers", CVPR 2023, with the details of the official code. MAE, and beside its loss the distance
between what the student's and a frozen teacher's blocks make of the same visible patches, at about
three quarters of the depth of both. The teacher runs no further than that (the official code runs
all of it, decoder included), so the features cost little more than MAE itself.
"""

import dataclasses
from collections.abc import Hashable, Sequence

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from maskjax import losses, masking, options
from maskjax.losses import Term
from maskjax.losses.feature import Distance
from maskjax.masking import Draws, TokenSplit
from maskjax.method import Aux, Batch, Method, Phase, Schedule, Terms, Tree, require
from maskjax.nn.autoencoder import Autoencoder, forward_flops
from maskjax.nn.feature_heads import FeatureHead, FeatureHeads
from maskjax.nn.vit import layer_ids
from maskjax.pretext import masked_autoencoder
from maskjax.pretext.outputs import features
from maskjax.pretext.teacher import Teacher, teacher
from maskjax.targets.features import unit
from maskjax.targets.patch_pixels import PatchPixels

# ViT-L/16 teaches ViT-B/16, as released.
DEFAULTS = {
    **masked_autoencoder.DEFAULTS,
    "norm_pix": False,  # the released run; its teacher was trained without, too
    "teacher": {**options.TEACHER, "name": "mae_l16", "blocks": 18},
    "student_blocks": (9,),  # the outputs of which blocks are aligned, counted from 1
    "teacher_blocks": (),  # with the outputs of these; () = of the last one that runs
    "distance": "l1",  # of the features; or l2
    "head": "linear",  # or mlp (GELU, as wide as the teacher); none = compared as they are
}
HEADS = ("linear", "mlp", "none")


class Student(Autoencoder):
    """MAE's autoencoder that shows some of its encoder's blocks, through heads.

    Attributes:
        aligned: the blocks, counted from 0.
        heads: one for each of them; None = shown as they are.
    """

    aligned: tuple[int, ...] = ()
    heads: FeatureHeads | None = None

    def setup(self):
        super().setup()
        if self.heads:
            self.projections = self.param("heads", self.heads.init, self.encoder_size.dim)

    def __call__(
        self, visible: Array, split: TokenSplit, *, taps: Sequence[str] = ()
    ) -> tuple[Array, list[Array], dict]:
        """Visible patches [B, K, P] -> prediction [B, N - K, P], features, and what was seen.

        The features are float32[B, 1 + K, E], of each aligned block. What was seen: "latent",
        "aligned" (the blocks' outputs, before the heads), and the decoder's taps.
        """
        names = [f"block/{index}" for index in self.aligned]
        latent, seen = self.encoder(visible, split.visible_ids, taps=names)
        prediction, decoder = self.decoder(latent, split, taps=taps)
        blocks = [seen[name] for name in names]
        shown = blocks
        if self.heads:
            shown = [self.heads(self.projections, i, x) for i, x in enumerate(blocks)]
        return prediction, shown, {"latent": latent, "aligned": blocks, **decoder}


@dataclasses.dataclass(frozen=True)
class DMAE:
    """The functions of the method, over one configuration.

    Attributes:
        model: the student.
        pixels: patches, inputs and targets.
        num_visible: K.
        teacher: its first blocks.
        taps: of the teacher, one for each aligned block of the student.
        distance: of the features.
    """

    model: Student
    pixels: PatchPixels
    num_visible: int
    teacher: Teacher
    taps: tuple[str, ...]
    distance: Distance

    def init(self, key: Array, batch: Batch) -> tuple[Tree, Tree]:
        """(params, {"teacher": its parameters, from the file later})."""
        ids = jnp.arange(self.pixels.num_tokens, dtype=jnp.int32)[None]
        split = TokenSplit(ids, (self.num_visible,))
        visible = self.pixels.patches(batch["image"][:1])[:, : self.num_visible]
        params = self.model.init(key, self.pixels.standardize(visible), split)["params"]
        return params, {"teacher": self.teacher.init(jax.random.fold_in(key, 1))}

    def loss(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws, step: Array, static: Hashable
    ) -> tuple[Terms, Aux]:
        """MAE's loss, and the mean distance of the features, class token included.

        With a head both sides have length 1, so that the distance is small: it is not scaled.
        """
        patches, split = self.pixels.patches(batch["image"]), self.sample(draws)
        require(split.num_hidden > 0, "model.mask_ratio", 0, "hides nothing to predict")
        visible = self.pixels.standardize(masking.tokens.gather(patches, split.visible_ids))
        target = self.pixels.target(masking.tokens.gather(patches, split.hidden_ids))
        prediction, shown, _ = self.model.apply({"params": params}, visible, split)
        errors = losses.squared_error(prediction, target)
        taught = self.taught(extra, batch, split)
        apart = [self.apart(*pair) for pair in zip(shown, taught, strict=True)]
        return {
            "reconstruction": Term(errors.sum(), errors.size),
            "alignment": Term(sum(x.sum() for x in apart), apart[0].size),
        }, {}

    def sample(self, draws: Draws) -> TokenSplit:
        """The one mask of student and teacher."""
        noise = draws.uniform("mask", (self.pixels.num_tokens,))
        return masking.random(noise, self.pixels.grid, num_visible=self.num_visible)

    def taught(self, extra: Tree, batch: Batch, split: TokenSplit) -> list[Array]:
        """The teacher's features of the visible patches, [B, 1 + K, E] each, without gradient."""
        visible = masking.tokens.gather(self.teacher.patches(batch["image"]), split.visible_ids)
        visible = jax.lax.stop_gradient(visible)
        _, seen = self.teacher(extra["teacher"], visible, split.visible_ids, taps=self.taps)
        return [seen[tap] for tap in self.taps]

    def apart(self, shown: Array, taught: Array) -> Array:
        """Distance of two features [B, 1 + K, E], float32[B, 1 + K]."""
        if self.model.heads:
            shown, taught = unit(shown), unit(taught)
        return losses.feature_error(shown, taught, self.distance)

    def encode(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """Features of whole images: cls, mean of patch tokens, all tokens (raster, no cls)."""
        patches = self.pixels.standardize(self.pixels.patches(batch["image"]))
        return features(self.model.apply({"params": params}, patches, method="encode"))

    def reconstruct(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """Prediction and target of every patch in raster order, and both as images in 0..1."""
        seen = self.activations(params, extra, batch, draws)
        return self.pixels.pictures(batch["image"], seen["prediction"], seen["hidden"])

    def activations(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """Everything between input and loss.

        In the order of "visible_ids", class token first: "latent" [B, 1 + K, D], "aligned",
        "projected" and "taught" [B, J, 1 + K, ...] of J aligned blocks. In raster order:
        "prediction" [B, N, P], "hidden" [B, N], "inverse" [B, N].
        """
        split = self.sample(draws)
        patches = masking.tokens.gather(self.pixels.patches(batch["image"]), split.visible_ids)
        visible = self.pixels.standardize(patches)
        given = ({"params": params}, visible, split)
        _, shown, seen = self.model.apply(*given, taps=("all",))
        return {
            "latent": seen["latent"],
            "aligned": jnp.stack(seen["aligned"], 1),
            "projected": jnp.stack(shown, 1),
            "taught": jnp.stack(self.taught(extra, batch, split), 1),
            "prediction": masking.tokens.restore(seen["all"], split),
            "visible_ids": split.visible_ids,
            "inverse": split.inverse(),
            "hidden": split.hidden(),
        }


def build(cfg: ConfigDict, example: Batch, schedule: Schedule) -> Method:
    """DMAE from `config.model`.

    Raises:
        UserError: for sizes, blocks or data that do not fit each other.
    """
    mae = masked_autoencoder.masked_autoencoder(cfg, example, lambda grid, num_visible: None)
    known = ("l1", "l2")
    require(cfg.distance in known, "model.distance", cfg.distance, " or ".join(known))
    size, large = mae.model.encoder_size, teacher(cfg, grid=mae.pixels.grid)
    whole = large.geometry.relative == "none"
    require(whole, "model.teacher.change", tuple(cfg.teacher.change), "must see some patches only")
    alone = large.geometry.cls and large.geometry.prefix_tokens == 1
    what = "must have a class token, and nothing else, in front of its patches"
    require(alone, "model.teacher.name", cfg.teacher.name, what)
    student_blocks, teacher_blocks = _blocks(cfg, size.depth, large.geometry.depth)
    heads = _heads(cfg, large, len(student_blocks))
    same = heads is not None or size.dim == large.geometry.dim
    what = f"the student is {size.dim} wide, the teacher {large.geometry.dim}"
    require(same, "model.head", cfg.head, what)
    aligned = tuple(number - 1 for number in student_blocks)
    dmae = DMAE(
        Student(*mae.model.fields(), aligned, heads),
        mae.pixels,
        mae.num_visible,
        large,
        tuple(f"block/{number - 1}" for number in teacher_blocks),
        cfg.distance,
    )
    head = heads.flops(mae.num_visible + 1, size.dim) * len(aligned) if heads else 0
    student = forward_flops(mae.model, mae.num_visible) + head
    return Method(
        dmae.init,
        (Phase(dmae.loss),),
        {name: getattr(dmae, name) for name in ("encode", "reconstruct", "activations")},
        load={"extra/teacher": "model.teacher"},
        layers=layer_ids(size.depth),
        describe=masked_autoencoder.facts(cfg),
        step_flops=3 * student + large.flops(mae.num_visible),
    )


def _blocks(cfg: ConfigDict, depth: int, running: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Blocks of student and teacher that belong together, counted from 1."""
    student = tuple(cfg.student_blocks)
    taught = tuple(cfg.teacher_blocks) or (running,) * len(student)
    inside = student and all(1 <= number <= depth for number in student)
    require(inside, "model.student_blocks", student, f"one or more of 1..{depth}")
    pairs = len(taught) == len(student)
    require(pairs, "model.teacher_blocks", taught, f"needs one for each of {student}")
    inside = all(1 <= number <= running for number in taught)
    require(inside, "model.teacher_blocks", taught, f"the teacher runs its first {running}")
    what = f"the last one that is needed is {max(taught)}: what comes after it would be wasted"
    require(max(taught) == cfg.teacher.blocks, "model.teacher.blocks", cfg.teacher.blocks, what)
    return student, taught


def _heads(cfg: ConfigDict, large: Teacher, num: int) -> FeatureHeads | None:
    require(cfg.head in HEADS, "model.head", cfg.head, f"one of {', '.join(HEADS)}")
    if cfg.head == "none":
        return None
    # They come after the official code's own initial values, and so keep PyTorch's.
    width, dtype = large.geometry.dim, options.dtype(cfg)
    head = FeatureHead(cfg.head, width, width, dtype=dtype, fan_in=True, parent=None)
    return FeatureHeads(head, num)
