"""I2P-MAE: a masked point cloud, completed; a frozen 2-D network says what to show and what it is.

Zhang, Wang, Qiao, Gao, Li, "Learning 3D Representations from 2D Pre-trained Models via
Image-to-Point Masked Autoencoders", CVPR 2023, with the details of the official code; the 3-D
network is Point-M2AE's (NeurIPS 2022). Three depth pictures of a cloud go through the 2-D network.
What it attends to tends to stay visible; of the visible points its features are predicted, of the
hidden ones where they are.
"""

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from maskjax import losses, masking, options
from maskjax.losses import Term
from maskjax.masking import Draws, TokenSplit
from maskjax.masking.counts import count_hidden
from maskjax.masking.hierarchy import visible_below
from maskjax.masking.tokens import gather
from maskjax.method import Aux, Batch, Method, Phase, Schedule, Terms, Tree, require
from maskjax.nn import initializers
from maskjax.nn.point_autoencoder import (
    Completed,
    PointAutoencoder,
    decoder_flops,
    encoder_flops,
)
from maskjax.nn.point_encoder import PointSize, visible_first
from maskjax.nn.point_ops import PointLevel, point_levels, take
from maskjax.pretext import point_networks, point_semantics, running_statistics
from maskjax.pretext.point_semantics import NUM_VIEWS, Look, PointSemantics, Seen

# The pretraining of the paper.
DEFAULTS = {
    "num_points": 2048,  # of a cloud
    "num_groups": (512, 256, 64),  # tokens of each scale, the finest first
    "group_sizes": (16, 8, 8),  # points, or tokens of the scale below, of each
    "encoder": {"dims": (96, 192, 384), "depths": (5, 5, 5), "heads": 6},
    "decoder": {"dims": (384, 192), "depths": (1, 1), "heads": 6, "units": (1,)},
    "mask_ratio": 0.8,  # of the coarsest scale's tokens
    "drop_path": 0.1,
    "semantic_weight": 1.0,  # of the 2-D features' error
    "first_token": False,  # the official code always shows token 0 of a batch's first cloud
    "image_size": (224, 224),  # of the depth pictures
    "channels": 3,
    "mean": options.IMAGE["mean"],  # of ImageNet, for CLIP too
    "std": options.IMAGE["std"],
    "teacher": {**options.TEACHER, "name": "clip_b16"},
    **options.COMPUTE,
}


class Masked(NamedTuple):
    """A batch, grouped, looked at and masked.

    Attributes:
        levels: of every scale, the visible tokens first.
        splits: how the tokens were moved there.
        valid: bool[B, R] of every scale, where a visible one stands.
        seen: what the 2-D network saw.
        probability: float32[B, G], of each token of the coarsest scale to be drawn first.
    """

    levels: tuple[PointLevel, ...]
    splits: tuple[TokenSplit, ...]
    valid: tuple[Array, ...]
    seen: Seen
    probability: Array


@dataclasses.dataclass(frozen=True)
class I2PMAE:
    """The functions of the method, over one configuration.

    Attributes:
        model: encoder, decoder, heads.
        semantics: pictures of the cloud and the 2-D network.
        num_groups, group_sizes: of every scale.
        rooms: R, most tokens of every scale that may be visible.
        weight: of the 2-D features' error.
        first_token: see DEFAULTS.
        start: first parameters of the 2-D network: key -> tree.
    """

    model: PointAutoencoder
    semantics: PointSemantics
    num_groups: tuple[int, ...]
    group_sizes: tuple[int, ...]
    rooms: tuple[int, ...]
    weight: float
    first_token: bool
    start: Callable[[Array], Tree]

    def init(self, key: Array, batch: Batch) -> tuple[Tree, Tree]:
        """(params, {"batch_stats": running statistics, "teacher": filled from the file later})."""
        levels = jax.eval_shape(self.levels, batch["points"][:1])
        levels = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), levels)
        valid = [jnp.ones((1, room), bool) for room in self.rooms]
        variables = self.model.init(key, levels, valid, train=False)
        params = variables["params"]
        encoder = params["encoder"]
        for init, which in ((initializers.token, "kernel$"), (nn.initializers.zeros, "bias$")):
            encoder = initializers.redrawn(encoder, key, init, which)
        extra = {"batch_stats": variables["batch_stats"]}
        teacher = self.start(jax.random.fold_in(key, 1))
        return {**params, "encoder": encoder}, {**extra, "teacher": teacher}

    def levels(self, points: Array) -> tuple[PointLevel, ...]:
        """Tokens of every scale, of clouds float[B, N, 3]."""
        return point_levels(points, self.num_groups, self.group_sizes)

    def loss(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws, step: Array, static: Hashable
    ) -> tuple[Terms, Aux]:
        """Where the hidden points are, and the 2-D features of the visible ones."""
        terms, state = self.terms(params, extra, batch, draws, train=True)
        return terms, running_statistics.as_means(state)

    def terms(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws, *, train: bool
    ) -> tuple[Terms, Tree]:
        """The loss by the statistics of the batch or by running ones, and {"batch_stats"} after the
        batch if it trains."""
        masked = self.masked(extra, batch, draws)
        made, state = self._run(params, extra, masked, draws, train=train)
        return self.compared(masked, made), state

    def compared(self, masked: Masked, made: Completed) -> Terms:
        """The loss of what the network made."""
        level, shown = masked.levels[1], masked.valid[1]
        hidden = ~_whole(shown, self.num_groups[1])
        distance = losses.chamfer(made.points, level.offsets)
        features = self.semantics.features_at(masked.seen, masked.levels[0].centers)
        target = take(features, level.ids[:, : self.rooms[1]])
        error = losses.squared_error(made.semantics, target).mean(-1)
        return {
            "points": Term(jnp.where(hidden, distance, 0).sum(), _count(hidden)),
            "semantics": Term(jnp.where(shown, error, 0).sum(), _count(shown), self.weight),
        }

    def _run(
        self, params: Tree, extra: Tree, masked: Masked, draws: Draws, *, train: bool
    ) -> tuple[Completed, Tree]:
        variables = {"params": params, "batch_stats": extra["batch_stats"]}
        given = (masked.levels, masked.valid)
        if not train:
            return self.model.apply(variables, *given, train=False), {}
        training = {"drop_noise": self._drop_noise(draws), "mutable": ["batch_stats"]}
        return self.model.apply(variables, *given, train=True, **training)

    def _drop_noise(self, draws: Draws) -> tuple[Array, Array] | None:
        if not self.model.drop_path:
            return None
        sizes = {"encoder": self.model.encoder_size, "decoder": self.model.decoder_size}
        return tuple(
            draws.uniform(f"drop_path/{name}", (sum(size.depths), 2))
            for name, size in sizes.items()
        )

    def after_update(self, params: Tree, extra: Tree, aux: Aux, step: Array) -> Tree:
        """Takes over the running statistics."""
        return running_statistics.taken_over(extra, aux)

    def masked(self, extra: Tree, batch: Batch, draws: Draws) -> Masked:
        """Groups, looks and masks: nothing here has a gradient."""
        levels = self.levels(batch["points"])
        seen = self.semantics(extra.get("teacher"), batch["points"])
        saliency = self.semantics.saliency_at(seen, levels[-1].centers)
        probability = jax.nn.softmax(saliency)
        hidden = self.hidden(levels, probability, draws)
        moved = visible_first(levels, hidden, self.rooms)
        return Masked(*moved, seen, probability)

    def hidden(self, levels: Sequence[PointLevel], probability: Array, draws: Draws) -> list[Array]:
        """bool[B, G] of every scale: drawn at the coarsest, carried down to the finest."""
        noise = draws.sample("mask", probability.shape[1:], self._exponential)
        split = masking.sampled(noise, probability, num_visible=self.rooms[-1])
        visible = [~split.hidden()]
        for level, groups in zip(levels[:0:-1], self.num_groups[-2::-1], strict=True):
            below = visible_below(visible[0], level.ids, groups)
            if self.first_token:
                below = below.at[0, 0].set(True)
            visible.insert(0, below)
        return [~shown for shown in visible]

    def _exponential(self, key: Array) -> Array:
        return jax.random.exponential(key, (self.num_groups[-1],))

    def encode(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """Features of whole clouds: the maximum of the coarsest tokens (as "cls"), their mean, and
        the "tokens" themselves."""
        variables = {"params": params, "batch_stats": extra["batch_stats"]}
        tokens = self.model.apply(variables, self.levels(batch["points"]), method="encode")
        return {"cls": tokens.max(1), "mean": tokens.mean(1), "tokens": tokens}

    def complete(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """What is made of masked clouds: "centers" float32[B, G, 3] of the second finest scale,
        "hidden" bool[B, G], and where the members of each token are, "prediction" and "target"
        float32[B, G, k, 3]."""
        masked = self.masked(extra, batch, draws)
        made, _ = self._run(params, extra, masked, draws, train=False)
        level, hidden = masked.levels[1], ~_whole(masked.valid[1], self.num_groups[1])
        centers = level.centers
        around = {"prediction": made.points, "target": level.offsets}
        found = {name: x + centers[:, :, None] for name, x in around.items()}
        return {**found, "centers": centers, "hidden": hidden}

    def activations(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """Everything between input and loss, by running statistics; tokens in their own order.

        Of each scale l "centers/l", "ids/l", "offsets/l", "hidden/l" bool[B, G]; "encoded/l"
        [B, R, D], the visible ones first, where "valid/l" is True. Of each view v "picture/v",
        "low/v", "cell/v", "shift/v". "probability" [B, G] of the coarsest scale; of the second
        finest "decoded" [B, G, D], "points" [B, G, k, 3] and "semantics" [B, R, k, F], which goes
        with "valid/1".
        """
        masked = self.masked(extra, batch, draws)
        made, _ = self._run(params, extra, masked, draws, train=False)
        found = {"probability": masked.probability, "semantics": made.semantics}
        places = masked.splits[1].inverse()
        found["decoded"] = gather(made.decoded, places)
        found["points"] = jnp.take_along_axis(made.points, places[..., None, None], axis=1)
        for i, level in enumerate(self.levels(batch["points"])):
            hidden = ~_whole(masked.valid[i], self.num_groups[i])
            found |= {f"{name}/{i}": x for name, x in level._asdict().items()}
            found[f"hidden/{i}"] = jnp.take_along_axis(hidden, masked.splits[i].inverse(), axis=1)
            found |= {f"encoded/{i}": made.encoded[i], f"valid/{i}": masked.valid[i]}
        for v, view in enumerate(masked.seen.views):
            found |= {f"{name}/{v}": x for name, x in view._asdict().items()}
            found[f"picture/{v}"] = masked.seen.pictures[v]
        return found


def _whole(valid: Array, num_tokens: int) -> Array:
    """bool[B, R] of the front -> bool[B, G] of all tokens, False behind it."""
    return jnp.pad(valid, ((0, 0), (0, num_tokens - valid.shape[1])))


def _count(chosen: Array) -> Array:
    return chosen.sum(dtype=jnp.float32)


def build(cfg: ConfigDict, example: Batch, schedule: Schedule) -> Method:
    """I2P-MAE from `config.model`; batches hold "points" float32[B, N, 3].

    Raises:
        UserError: for sizes, ratios or data that do not fit each other.
    """
    look = point_semantics.vit_look(cfg)
    method = i2p_mae(cfg, example, look, look.num_features, look.teacher.init)
    names = ("encode", "complete", "activations")
    facts = ("num_groups", "group_sizes", "mask_ratio", "num_points")
    return Method(
        method.init,
        (Phase(method.loss),),
        {name: getattr(method, name) for name in names},
        after_update=method.after_update,
        load={"extra/teacher": "model.teacher"},
        weights={"params": "params", "batch_stats": "extra/batch_stats"},
        # The official rule: names with "token", which are these there.
        groups=(("(^encoder/embeds_|^decoder/fusions_|/mask_token$)", "no_decay"),),
        coupled=True,
        describe={key: cfg[key] for key in facts},
        step_flops=_step_flops(method, point_semantics.teacher_flops(look)),
    )


def i2p_mae(
    cfg: ConfigDict, example: Batch, look: Look, num_features: int, start: Callable[[Array], Tree]
) -> I2PMAE:
    """The method over any 2-D network.

    Args:
        cfg: `config.model`.
        example: a batch.
        look: the network.
        num_features: of a cell of its features.
        start: its first parameters.

    Raises:
        UserError: for sizes, ratios or data that do not fit each other.
    """
    groups, sizes = point_networks.groups(cfg, example)
    _check(cfg)
    encoder, decoder = (
        point_networks.size(cfg[name], f"model.{name}") for name in ("encoder", "decoder")
    )
    _check_decoder(cfg, encoder, decoder)
    heads = (sizes[1], NUM_VIEWS * num_features)
    model = PointAutoencoder(
        encoder, decoder, tuple(cfg.decoder.units), *heads, cfg.drop_path, options.compute(cfg)
    )
    semantics = PointSemantics(look, cfg.image_size[0], tuple(cfg.mean), tuple(cfg.std))
    rooms = [groups[-1] - count_hidden(groups[-1], cfg.mask_ratio)]
    for below, size in zip(groups[-2::-1], sizes[:0:-1], strict=True):
        rooms.insert(0, min(below, rooms[0] * size + bool(cfg.first_token)))
    given = (groups, sizes, tuple(rooms), cfg.semantic_weight, bool(cfg.first_token), start)
    return I2PMAE(model, semantics, *given)


def _check(cfg: ConfigDict):
    num = cfg.num_groups[-1]
    fits = isinstance(cfg.mask_ratio, int | float) and 0 < cfg.mask_ratio < 1
    require(fits, "model.mask_ratio", cfg.mask_ratio, "must be a number between 0 and 1")
    what = f"must hide some of the {num} coarsest tokens, and show some"
    fits = 0 < count_hidden(num, cfg.mask_ratio) < num
    require(fits, "model.mask_ratio", cfg.mask_ratio, what)
    point_networks.check_rate(cfg, "drop_path")
    require(cfg.semantic_weight >= 0, "model.semantic_weight", cfg.semantic_weight, "is negative")
    for key in ("mean", "std"):
        fits = len(cfg[key]) == cfg.channels
        require(fits, f"model.{key}", tuple(cfg[key]), f"needs {cfg.channels} channels")
    size = options.pair(cfg.image_size, "model.image_size")
    fits = size[0] == size[1] and size[0] % 2 == 0 and size[0] >= 8
    require(fits, "model.image_size", size, "must be square, of an even number of 8 or more pixels")


def _check_decoder(cfg: ConfigDict, encoder: PointSize, decoder: PointSize):
    scales = len(cfg.num_groups)
    point_networks.check_scales(encoder, scales)
    what = f"must be for {scales - 1} scales: down to the second finest"
    require(len(decoder.dims) == scales - 1, "model.decoder.dims", decoder.dims, what)
    what = f"must start with the encoder's last width {encoder.dims[-1]}"
    require(decoder.dims[0] == encoder.dims[-1], "model.decoder.dims", decoder.dims, what)
    units = tuple(cfg.decoder.units)
    fits = len(units) == scales - 2 and all(isinstance(n, int) and n >= 0 for n in units)
    what = f"must be {scales - 2} ints, 0 or more: one for each step down"
    require(fits, "model.decoder.units", units, what)


def _step_flops(method: I2PMAE, teacher: int) -> int:
    """Three forward passes of the network, one of the teacher over three pictures."""
    model, groups, rooms = method.model, method.num_groups, method.rooms
    encoder = encoder_flops(model.encoder_size, groups, method.group_sizes, rooms)
    return 3 * (encoder + decoder_flops(model, groups, rooms)) + teacher
