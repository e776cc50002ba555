"""Selfie: choose the right patch for a hidden place among the hidden patches of the same image.

Trinh, Luong, Le, "Selfie: Self-supervised Pretraining for Image Embedding", arXiv 1906.02940, 2019.
No official code is known: details come from an independent re-implementation ("peer"), from memory
of the paper, or are ours, as the defaults say. A network P (the first stages of a ResNet) makes a
vector of every patch; attention pooling A turns those of the visible patches into one vector u; the
sum of u and the embedding of a hidden place asks for its patch, by the largest dot product.
"""

import dataclasses
from collections.abc import Hashable

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jax import Array
from ml_collections import ConfigDict

from maskjax import masking, options
from maskjax.losses import Term, cross_entropy
from maskjax.masking import Draws, TokenSplit
from maskjax.method import Aux, Batch, Mean, Method, Phase, Schedule, Terms, Tree, require
from maskjax.nn import flops, initializers
from maskjax.nn.attention_pool import AttentionPool
from maskjax.nn.patch_resnet import PatchResNet
from maskjax.nn.vit import Size
from maskjax.pretext import running_statistics
from maskjax.targets.patch_pixels import PatchPixels

DEFAULTS = {
    "image_size": (32, 32),
    "patch_size": (8, 8),
    "channels": 3,
    "mean": (0.4914, 0.4822, 0.4465),  # peer: CIFAR
    "std": (0.2470, 0.2435, 0.2616),
    # ResNet-50's first three stages (paper); its form and stem (peer).
    "net": {"stem": 64, "widths": (64, 128, 256), "blocks": (3, 4, 6), "expansion": 4},
    "preact": True,  # peer; False = torchvision's form, which can be exported under its names
    "stem_pool": False,  # ours, for patches of 32 px: True
    "pool": {"layers": 3, "heads": 32, "hidden": 640},  # peer = memory
    "dropout": 0.1,  # peer = memory; here on the branches only, not inside attention
    "target_ratio": 0.25,  # peer; 50 to 75 % visible in the paper (memory)
    "u0": "learned",  # memory; the peer code has zeros
    "positions": "cells",  # one vector a place, or "rows_columns": sums (paper, for 7 x 7)
    "context_positions": True,  # memory; the peer code leaves them out
    "scale_logits": False,  # ours: divide by sqrt(D) if training diverges
    "dtype": "float32",
}


class PatchChooser(nn.Module):
    """P, A, and the embeddings of places.

    Attributes:
        net, pool: P and A.
        grid: (rows, columns) of patches.
        positions: "cells" or "rows_columns".
        context_positions: adds places to the features that A gets.
        scale_logits: divides by sqrt(D).
    """

    net: PatchResNet
    pool: AttentionPool
    grid: tuple[int, int]
    positions: str = "cells"
    context_positions: bool = True
    scale_logits: bool = False

    def setup(self):
        self.patch_net = self.net.clone(name="patch_net", parent=None)
        self.attention_pool = self.pool.clone(name="attention_pool", parent=None)
        rows, columns = self.grid
        if self.positions == "cells":
            shape = (rows * columns, self.net.dim)
            self.table = self.param("pos_embed", initializers.token, shape)
        else:
            row = self.param("row_embed", initializers.token, (rows, self.net.dim))
            column = self.param("col_embed", initializers.token, (columns, self.net.dim))
            self.table = rearrange(row[:, None] + column, "r c d -> (r c) d")

    def __call__(
        self, patches: Array, split: TokenSplit, *, train: bool = False, keep: Array | None = None
    ) -> dict[str, Array]:
        """Patches [B, N, p, p, C] -> "features" [B, N, D], "pooled" [B, D], "queries" [B, T, D],
        "logits" [B, T, T]: of place t (row) and patch j (column), both in the order of the split.
        """
        features = self.features(patches, train=train)
        pooled = self.pooled(features, split.visible_ids, keep)
        targets = masking.tokens.gather(features, split.hidden_ids)
        queries = pooled[:, None] + jnp.take(self.table, split.hidden_ids, axis=0)
        logits = jnp.einsum("btd,bjd->btj", queries, targets)
        if self.scale_logits:
            logits = logits * self.net.dim**-0.5
        seen = {"features": features, "pooled": pooled, "queries": queries}
        return {**seen, "logits": logits}

    def features(self, patches: Array, *, train: bool = False) -> Array:
        """[B, N, p, p, C] -> float32[B, N, D]; batch statistics are those of all patches."""
        flat = self.patch_net(rearrange(patches, "b n p q c -> (b n) p q c"), train=train)
        return rearrange(flat, "(b n) d -> b n d", n=patches.shape[1])

    def pooled(self, features: Array, ids: Array, keep: Array | None = None) -> Array:
        """Features [B, N, D] of the patches `ids` int[B, K] -> u float32[B, D]."""
        context = masking.tokens.gather(features, ids)
        if self.context_positions:
            context = context + jnp.take(self.table, ids, axis=0)
        return self.attention_pool(context, keep)


@dataclasses.dataclass(frozen=True)
class Selfie:
    """The functions of the method, over one configuration."""

    model: PatchChooser
    pixels: PatchPixels
    channels: int
    num_targets: int
    dropout: float

    def init(self, key: Array, batch: Batch) -> tuple[Tree, Tree]:
        """(params, {"batch_stats": running statistics})."""
        patches = self._patches(batch["image"][:1])
        noise = jnp.arange(self.pixels.num_tokens, dtype=jnp.float32)[None]
        split = self.sample(Draws.replay({"mask": noise}))
        variables = self.model.init(key, patches, split)
        return variables["params"], {"batch_stats": variables["batch_stats"]}

    def loss(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws, step: Array, static: Hashable
    ) -> tuple[Terms, Aux]:
        """Cross-entropy of the choice among the hidden patches of the image."""
        split = self.sample(draws)
        seen, state = self.model.apply(
            {"params": params, **extra},
            self._patches(batch["image"]),
            split,
            train=True,
            keep=self._dropout(draws),
            mutable=["batch_stats"],
        )
        logits = seen["logits"]
        truth = jnp.broadcast_to(jnp.arange(self.num_targets), logits.shape[:2])
        values = cross_entropy(logits, truth)
        right = (jnp.argmax(logits, -1) == truth).sum()
        aux = {"choice_accuracy": Mean(right, truth.size), **running_statistics.as_means(state)}
        return {"choice": Term(values.sum(), values.size)}, aux

    def after_update(self, params: Tree, extra: Tree, aux: Aux, step: Array) -> Tree:
        """Takes over the running statistics."""
        return running_statistics.taken_over(extra, aux)

    def sample(self, draws: Draws) -> TokenSplit:
        """Which patches are context: those of the smallest scores; targets by falling score."""
        score = draws.uniform("mask", (self.pixels.num_tokens,))
        ids = jnp.argsort(score, axis=-1)
        num_visible = self.pixels.num_tokens - self.num_targets
        ids = jnp.concatenate([ids[:, :num_visible], ids[:, num_visible:][:, ::-1]], axis=1)
        return TokenSplit(ids, (num_visible,))

    def encode(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """Features of whole images: "tokens" of the patches (P), their "mean", and "cls" = u."""
        variables = {"params": params, **extra}
        patches = self._patches(batch["image"])
        tokens = self.model.apply(variables, patches, method="features")
        ids = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape[:2])
        pooled = self.model.apply(variables, tokens, ids, method="pooled")
        return {"cls": pooled, "mean": tokens.mean(1), "tokens": tokens}

    def choose(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """What the model sees and says of images with hidden patches.

        "features", "pooled", "queries", "logits" as of `PatchChooser`, "visible_ids",
        "hidden_ids", and "chosen" int32[B, T]: the number of the patch chosen for each place.
        """
        split = self.sample(draws)
        variables = {"params": params, **extra}
        seen = self.model.apply(variables, self._patches(batch["image"]), split)
        best = jnp.argmax(seen["logits"], -1)
        chosen = jnp.take_along_axis(split.hidden_ids, best, axis=1)
        ids = {"visible_ids": split.visible_ids, "hidden_ids": split.hidden_ids}
        return {**seen, **ids, "chosen": chosen}

    def reconstruct(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """The image with the chosen patches at the hidden places, as `PatchPixels.pictures`.

        And "right" bool[B, N]: a place has its own patch.
        """
        split = self.sample(draws)
        chosen = self.choose(params, extra, batch, draws)["chosen"]
        patches = self.pixels.standardize(self.pixels.patches(batch["image"]))
        source = jnp.concatenate([split.visible_ids, chosen], axis=1)
        put = masking.tokens.gather(patches, source)
        prediction = masking.tokens.restore(put, split)
        pictures = self.pixels.pictures(batch["image"], prediction, split.hidden())
        right = masking.tokens.restore((source == split.ids)[..., None], split)[..., 0]
        return {**pictures, "right": right}

    def _patches(self, image: Array) -> Array:
        """Images [B, H, W, C] -> standardised patches [B, N, p, q, C]."""
        p, q = self.pixels.patch
        patches = self.pixels.standardize(self.pixels.patches(image))
        return rearrange(patches, "b n (p q c) -> b n p q c", p=p, q=q, c=self.channels)

    def _dropout(self, draws: Draws) -> Array | None:
        if not self.dropout:
            return None
        tokens = 1 + self.pixels.num_tokens - self.num_targets
        shape = (self.model.pool.layers, 2, tokens, self.model.net.dim)
        noise = draws.uniform("dropout", shape)
        return jnp.where(noise < self.dropout, 0, 1 / (1 - self.dropout))


def build(cfg: ConfigDict, example: Batch, schedule: Schedule) -> Method:
    """Selfie from `config.model`.

    Raises:
        UserError: for sizes, shares or data that do not fit each other.
    """
    grid, patch = options.patch_grid(cfg)
    options.check_pixels(cfg, example)
    num_tokens = grid[0] * grid[1]
    num_targets = int(cfg.target_ratio * num_tokens)
    # A single target would be the only candidate: the loss is 0 then.
    fits = 2 <= num_targets < num_tokens
    what = f"must make 2 or more of the {num_tokens} patches targets, and leave one"
    require(fits, "model.target_ratio", cfg.target_ratio, what)
    for key, known in (("u0", ("learned", "zeros")), ("positions", ("cells", "rows_columns"))):
        require(cfg[key] in known, f"model.{key}", cfg[key], " or ".join(known))
    require(0 <= cfg.dropout < 1, "model.dropout", cfg.dropout, "must lie in [0, 1)")
    require(
        len(cfg.net.widths) == len(cfg.net.blocks),
        "model.net",
        cfg.net.to_dict(),
        "one block count a width",
    )
    dtype = options.dtype(cfg)
    sizes = (cfg.net.stem, tuple(cfg.net.widths), tuple(cfg.net.blocks), cfg.net.expansion)
    net = PatchResNet(*sizes, cfg.preact, cfg.stem_pool, dtype=dtype, parent=None)
    heads = cfg.pool.heads
    require(net.dim % heads == 0, "model.pool.heads", heads, f"must divide the width {net.dim}")
    pool = (cfg.pool.layers, heads, cfg.pool.hidden, cfg.u0 == "learned")
    pool = AttentionPool(*pool, dtype=dtype, parent=None)
    model = PatchChooser(net, pool, grid, cfg.positions, cfg.context_positions, cfg.scale_logits)
    pixels = PatchPixels(grid, patch, False, tuple(cfg.mean), tuple(cfg.std))
    selfie = Selfie(model, pixels, cfg.channels, num_targets, cfg.dropout)
    return Method(
        selfie.init,
        (Phase(selfie.loss),),
        {name: getattr(selfie, name) for name in ("encode", "choose", "reconstruct")},
        after_update=selfie.after_update,
        coupled=True,
        step_flops=3 * _forward_flops(selfie),
        describe={"grid": grid, "target_ratio": cfg.target_ratio},
    )


def _forward_flops(selfie: Selfie) -> int:
    """Of one image: every patch through P, the visible ones through A, and the choice."""
    net, pool = selfie.model.net, selfie.model.pool
    num_tokens, targets = selfie.pixels.num_tokens, selfie.num_targets
    size = Size(net.dim, pool.layers, pool.heads, pool.hidden / net.dim)
    return (
        num_tokens * net.flops(selfie.pixels.patch, selfie.channels)
        + flops.transformer(1 + num_tokens - targets, size)
        + flops.linear(targets, net.dim, targets)
    )
