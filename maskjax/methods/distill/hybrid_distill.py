"""Hybrid Distill: features of one frozen teacher, token relations of another, ever fewer tokens.

Shi, Zhang, Wang, Li, Dai, Zou, Xiong, Tian, "Hybrid Distillation: Connecting Masked Autoencoders
with Contrastive Learners", ICLR 2024. No code was published. From the abstract and public reviews
come the two teachers, the relations of intermediate layers, progressive masking of redundant tokens
and the weights of 1; the rest is memory or a decision of ours, and open by config. A contrastive or
supervised teacher tells tokens apart, but its late heads all look the same way; a masked
autoencoder's heads stay diverse. The student, from random weights, gets both.
"""

import dataclasses
from collections.abc import Hashable, Mapping

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from maskjax import losses, masking, options
from maskjax.losses import Term
from maskjax.losses.feature import DISTANCES
from maskjax.masking import Draws, TokenSplit
from maskjax.masking.progressive import active_ids
from maskjax.masking.progressive import redundancy as redundancy_of
from maskjax.method import Aux, Batch, Method, Phase, Schedule, Terms, Tree, require
from maskjax.nn import flops, shrinking_vit
from maskjax.nn.attention_statistics import attention_distance, mutual_information
from maskjax.nn.feature_heads import FeatureHead
from maskjax.nn.geometry import SINCOS
from maskjax.nn.shrinking_vit import ShrinkingEncoder
from maskjax.nn.vit import Size, layer_ids
from maskjax.pretext import masked_autoencoder, redundancy
from maskjax.pretext.outputs import features
from maskjax.pretext.redundancy import RedundancyMask
from maskjax.pretext.relation_target import RelationTarget, relation_target
from maskjax.pretext.teacher import Teacher, teacher
from maskjax.targets.features import normalized
from maskjax.targets.patch_pixels import PatchPixels

# ViT-B/16. Values marked "memory" are recalled from the paper and not confirmed by any source.
DEFAULTS = {
    **options.IMAGE,
    "encoder": dataclasses.asdict(Size(768, 12, 12)),
    "position": "sincos",
    "norm_eps": 1e-6,
    "feature_teacher": {**options.TEACHER, "name": "deit_b16"},  # or "clip_b16"
    "relation_teacher": {**options.TEACHER, "name": "mae_b16"},
    "alpha": 1.0,  # of the features (reviews)
    "beta": 1.0,  # of the relations, a sum over layers (reviews)
    "relation_layers": (),  # () = all but the last (memory, low confidence)
    "relations": ("query_key",),  # or "value_value" beside it
    "relation_heads": 0,  # 0 = the student's, which the teacher must have, too
    "distance": "smooth_l1",  # of both: or "l2", "l1" (memory); of relations also "kl":
    "relation_distance": "",  # "" = the same
    "target_norm": "whiten",  # of the features: or "l2", "none" (memory)
    "head": "auto",  # linear where the widths differ; or "none", "linear", "norm_linear"
    "teachers_see": "image",  # or "kept": only the student's tokens, of a mask of one point
    "mask": redundancy.MASK,  # memory
    **options.COMPUTE,
}


@dataclasses.dataclass(frozen=True)
class HybridDistill:
    """The functions of the method, over one configuration.

    Attributes:
        model: the student.
        head: to the width of the features; None = identity.
        pixels: patches and inputs.
        mask: which patches the student goes on with.
        of_features: the teacher of features and masks; None where neither is used.
        relations: which of the other teacher's relations are compared; None without.
        cfg: `config.model`, for what needs no more than looking up.
    """

    model: ShrinkingEncoder
    head: FeatureHead | None
    pixels: PatchPixels
    mask: RedundancyMask
    of_features: Teacher | None
    relations: RelationTarget | None
    cfg: ConfigDict

    @property
    def teachers(self) -> dict[str, Teacher]:
        """Those there are, by their names in `extra` and in the config."""
        related = self.relations.teacher if self.relations else None
        both = {"feature_teacher": self.of_features, "relation_teacher": related}
        return {name: one for name, one in both.items() if one is not None}

    def init(self, key: Array, batch: Batch) -> tuple[Tree, Tree]:
        """({"encoder", "feature_head"}, {teacher: its parameters, from the file later})."""
        patches = self.pixels.standardize(self.pixels.patches(batch["image"][:1]))
        params = {"encoder": self.model.init(key, patches)["params"]}
        if self.head:
            example = jnp.zeros((1, self.model.size.dim))
            params["feature_head"] = self.head.init(jax.random.fold_in(key, 1), example)["params"]
        keys = {name: jax.random.fold_in(key, 2 + i) for i, name in enumerate(self.teachers)}
        return params, {name: one.init(keys[name]) for name, one in self.teachers.items()}

    def loss(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws, step: Array, static: Hashable
    ) -> tuple[Terms, Aux]:
        """alpha * distance of the last features + beta * sum over layers of that of relations."""
        split, tokens = self.look(extra, batch, draws)
        latent, errors = self.run(params, extra, batch, split)
        terms = {}
        if self.cfg.alpha:
            distance = self.distance(params, latent, tokens, split)
            terms["features"] = Term(distance.sum(), distance.size, self.cfg.alpha)
        if self.relations:
            terms["relations"] = Term(errors.sum(), errors.shape[1], self.cfg.beta)
        return terms, {}

    def look(self, extra: Tree, batch: Batch, draws: Draws) -> tuple[TokenSplit, Array | None]:
        """Which patches stay, and the feature teacher's tokens, whatever `teachers_see` lets it.

        Tokens float32[B, E + N, D] or [B, E + K, D], E = 1 where there is a class token; without
        gradient; None where `alpha` is 0.
        """
        one, image = self.of_features, batch["image"]
        if one is None:
            return self.mask.sample(draws, (), len(image)), None
        weights, patches = extra["feature_teacher"], one.patches(image)
        found, out, shown = [], None, []
        if self.mask.guided:
            found = [one.embed(weights, patches)]
            # The teacher's depth may be another one: the same share of it, a block at least.
            depth = one.geometry.depth
            shown = [max(1, p * depth // self.model.size.depth) for p in self.mask.points[1:]]
        if shown or (self.cfg.alpha and not self.sees_kept):
            taps = tuple(f"block/{p - 1}" for p in shown)
            out, seen = one(weights, patches, taps=taps)
            found += [one.pick(seen[tap], None) for tap in taps]
        split = self.mask.sample(draws, found, len(image))
        if not self.cfg.alpha:
            return split, None
        if self.sees_kept:
            out, _ = one(weights, *self._kept(patches, split))
        tokens = out["tokens"]
        if one.geometry.cls:
            tokens = jnp.concatenate([out["cls"][:, None], tokens], 1)
        return split, tokens

    def run(
        self, params: Tree, extra: Tree, batch: Batch, split: TokenSplit
    ) -> tuple[Array, Array | None]:
        """The student's latent float32[B, 1 + K, D], and how far its relations are off.

        The second is float32[layers, B], the mean over heads, rows and columns; None without.
        """
        ids = active_ids(split, 0)
        patches = masking.tokens.gather(self.pixels.patches(batch["image"]), ids)
        options = {}
        if self.relations:
            seen, where = self.relations.teacher.patches(batch["image"]), None
            if self.sees_kept:
                seen, where = self._kept(seen, split)
            targets = self.relations.targets(extra["relation_teacher"], seen, where)
            probe = self.relations.prober(targets, None if self.sees_kept else split.ids)
            options = {"probed": self.relations.layers, "probe": probe}
        return self.model.apply(
            {"params": params["encoder"]},
            self.pixels.standardize(patches),
            ids,
            self.mask.counts,
            method="shrinking",
            **options,
        )

    def distance(self, params: Tree, latent: Array, tokens: Array, split: TokenSplit) -> Array:
        """How far the student's tokens are from the teacher's, float32[B, tokens].

        Args:
            params: of the student.
            latent: [B, 1 + K, D].
            tokens: as of `look`.
            split: of the patches.
        """
        front = int(self.of_features.geometry.cls)
        target = tokens
        if not self.sees_kept:
            patches = masking.tokens.gather(tokens[:, front:], split.visible_ids)
            target = jnp.concatenate([tokens[:, :front], patches], 1)
        own = latent if front else latent[:, 1:]
        own = self.head.apply({"params": params["feature_head"]}, own) if self.head else own
        target = normalized(target, self.cfg.target_norm)
        return losses.feature_error(own, target, self.cfg.distance)

    @property
    def sees_kept(self) -> bool:
        """Whether the teachers see the student's patches only."""
        return self.cfg.teachers_see == "kept"

    def _kept(self, patches: Array, split: TokenSplit) -> tuple[Array, Array]:
        ids = split.visible_ids
        return masking.tokens.gather(patches, ids), ids

    def encode(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """Features of whole images: cls, mean of patch tokens, all tokens (raster, no cls)."""
        patches = self.pixels.standardize(self.pixels.patches(batch["image"]))
        return features(self.model.apply({"params": params["encoder"]}, patches)[0])

    def attention(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """How the student attends to whole images, for each block and head, float32[B, L, H].

        "distance" in patches and "mutual_information", see `nn.attention_statistics`: diverse heads
        look near and far; where attention has collapsed, all queries look at the same keys.
        """
        patches = self.pixels.standardize(self.pixels.patches(batch["image"]))
        num, depth = self.pixels.num_tokens, self.model.size.depth
        ids = jnp.broadcast_to(jnp.arange(num), (len(patches), num))

        def measure(seen: Mapping[str, Array], number: Array) -> Array:
            weights = seen["attention"]
            distance = attention_distance(weights, self.pixels.grid)
            return jnp.stack([distance, mutual_information(weights)], -1)

        options = {"probed": tuple(range(depth)), "probe": lambda layers, count: measure}
        variables = {"params": params["encoder"]}
        _, found = self.model.apply(
            variables, patches, ids, {0: num}, method="shrinking", **options
        )
        found = jnp.moveaxis(found, 0, 1)
        return {"distance": found[..., 0], "mutual_information": found[..., 1]}

    def stages(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """Which patches leave where, and how alike those are that stay, to the feature teacher.

        "original" float32[B, H, W, C] in 0..1; "stage" int32[B, N], how many points each patch
        passed; "hidden" bool[B, N], those that left; "likeness" and "likeness_all" float32[B], the
        mean cosine similarity of two patches that stay, and of any two.
        """
        image, one = batch["image"], self.of_features
        split, _ = self.look(extra, batch, draws)
        tokens = one(extra["feature_teacher"], one.patches(image))[0]["tokens"]
        hidden = split.hidden()
        kept = jnp.where(hidden, 0, redundancy_of(tokens, ~hidden)).sum(1) / split.num_visible
        raw = self.pixels.standardize(self.pixels.patches(image))
        return {
            "original": self.pixels.picture(raw, raw),
            "stage": self._passed(split),
            "hidden": hidden,
            "likeness": kept,
            "likeness_all": redundancy_of(tokens).mean(1),
        }

    def _passed(self, split: TokenSplit) -> Array:
        """int32[B, N], how many points each patch passed, in raster order."""
        rank = split.inverse()[..., None]
        return (rank < jnp.asarray(self.mask.num_keep)).sum(-1).astype(jnp.int32)

    def activations(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """ "latent" [B, 1 + K, D]; "ids" int32[B, N], patches in the order in which they stay;
        "stage" int32[B, N], how many points each patch passed (raster order); "relation_errors"
        float32[B, layers], where there are relations.
        """
        split, _ = self.look(extra, batch, draws)
        latent, errors = self.run(params, extra, batch, split)
        found = {} if errors is None else {"relation_errors": errors.T}
        return {"latent": latent, "ids": split.ids, "stage": self._passed(split), **found}


def build(cfg: ConfigDict, example: Batch, schedule: Schedule) -> Method:
    """Hybrid Distill from `config.model`.

    Raises:
        UserError: for sizes, masks, teachers or data that do not fit each other.
    """
    grid, patch = options.patch_grid(cfg)
    options.check_pixels(cfg, example)
    _check(cfg)
    size = options.size(cfg.encoder, "model.encoder")
    mask = redundancy.redundancy_mask(cfg, grid, size.depth)
    needed = cfg.alpha > 0 or mask.guided
    of_features = teacher(cfg, "feature_teacher", grid) if needed else None
    relations = relation_target(cfg, "relation_teacher", size, grid) if cfg.beta > 0 else None
    _check_kept(cfg, mask, of_features, relations and relations.teacher)
    head = _head(cfg, size, of_features) if cfg.alpha > 0 else None
    pixels = PatchPixels(grid, patch, False, tuple(cfg.mean), tuple(cfg.std))
    patch_dim = patch[0] * patch[1] * cfg.channels
    shared = (grid, patch_dim, options.compute(cfg), cfg.position)
    model = ShrinkingEncoder(size, *shared, eps=cfg.norm_eps)
    body = HybridDistill(model, head, pixels, mask, of_features, relations, cfg)
    names = ("encode", "attention", "activations", *(["stages"] if of_features else []))
    return Method(
        body.init,
        (Phase(body.loss),),
        {name: getattr(body, name) for name in names},
        load={f"extra/{name}": f"model.{name}" for name in body.teachers},
        layers=layer_ids(size.depth),
        describe=masked_autoencoder.facts(cfg),
        step_flops=_step_flops(body),
    )


def _check(cfg: ConfigDict):
    for key, known in (
        ("distance", DISTANCES),
        ("target_norm", ("whiten", "l2", "none")),
        ("head", ("auto", "none", "linear", "norm_linear")),
        ("teachers_see", ("image", "kept")),
        ("position", tuple(SINCOS)),
    ):
        require(cfg[key] in known, f"model.{key}", cfg[key], " or ".join(known))
    for key in ("alpha", "beta"):
        fits = isinstance(cfg[key], int | float) and cfg[key] >= 0
        require(fits, f"model.{key}", cfg[key], "must be a number, 0 or more")
    require(cfg.alpha + cfg.beta > 0, "model.alpha", cfg.alpha, "or beta must be above 0")
    require(cfg.norm_eps > 0, "model.norm_eps", cfg.norm_eps, "must be positive")


def _check_kept(cfg: ConfigDict, mask: RedundancyMask, *teachers: Teacher | None):
    if cfg.teachers_see == "image":
        return
    one_point = len(mask.points) == 1
    what = "needs a mask of one point (model.mask.kind direct, random or none)"
    require(one_point, "model.teachers_see", cfg.teachers_see, what)
    plain = all(one is None or one.geometry.relative == "none" for one in teachers)
    what = "is not for teachers with relative positions, which want all patches"
    require(plain, "model.teachers_see", cfg.teachers_see, what)


def _head(cfg: ConfigDict, size: Size, one: Teacher) -> FeatureHead | None:
    width, same = one.geometry.dim, one.geometry.dim == size.dim
    kind = ("none" if same else "linear") if cfg.head == "auto" else cfg.head
    what = f"the feature teacher is {width} wide, the student {size.dim}"
    require(kind != "none" or same, "model.head", cfg.head, what)
    if kind == "none":
        return None
    return FeatureHead(kind, width, width, cfg.norm_eps, options.dtype(cfg))


def _step_flops(body: HybridDistill) -> float:
    """Three passes of the student, its relations included, and one of the teachers."""
    size, counts = body.model.size, body.mask.counts
    student = flops.linear(body.mask.num_keep[0], body.model.patch_dim, size.dim)
    student += shrinking_vit.forward_flops(size, counts)
    kept, total = body.mask.num_keep[-1], 0
    if body.head:
        student += flops.linear(1 + kept, size.dim, body.head.features)
    seen = kept if body.sees_kept else 0
    if body.of_features:
        total += body.of_features.flops(seen)
    if body.relations:
        parts = shrinking_vit.parts(size.depth, counts, body.relations.layers)
        pairs = sum((1 + n) ** 2 * (stop - start) for start, stop, n, probed in parts if probed)
        student += body.relations.flops(pairs, size.dim)
        total += body.relations.flops(pairs) + body.relations.teacher.flops(
            seen, body.relations.blocks
        )
    return 3 * student + total
