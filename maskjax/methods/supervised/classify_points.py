"""Classification of point clouds: fine-tuning of I2P-MAE's encoder, or from scratch.

The classifiers of the official fine-tuning code of I2P-MAE (Zhang et al., CVPR 2023): every token
sees those within a radius, mean and maximum of the coarsest tokens are added (ModelNet40) or stand
side by side (ScanObjectNN). `config.init_from` names a run of `views.i2p_mae`.
"""

import dataclasses
import itertools
from collections.abc import Hashable

from jax import Array
from ml_collections import ConfigDict

from maskjax import losses, options
from maskjax.losses import Term
from maskjax.masking import Draws
from maskjax.method import Aux, Batch, Mean, Method, Phase, Schedule, Terms, Tree, require
from maskjax.nn import flops
from maskjax.nn.point_autoencoder import encoder_flops
from maskjax.nn.point_classifier import NUM_HIDDEN, POOLS, PointClassifier
from maskjax.nn.point_ops import point_levels
from maskjax.pretext import point_networks, running_statistics
from maskjax.targets import label_mixing

# The official fine-tuning on ModelNet40.
DEFAULTS = {
    "num_points": 1024,  # of a cloud
    "num_groups": (512, 256, 64),  # tokens of each scale, the finest first
    "group_sizes": (48, 24, 24),  # points, or tokens of the scale below, of each
    "radius": (0.24, 0.48, 0.96),  # how far a token sees; 0 = everything
    "encoder": {"dims": (96, 192, 384), "depths": (5, 5, 5), "heads": 6},
    "drop_path": 0.1,
    "num_classes": 40,
    "pool": "add",  # mean and maximum of the coarsest tokens; or concat
    "hidden": 256,  # width of the head's two layers
    "dropout": 0.5,  # behind them
    "smoothing": 0.2,  # of the labels, shared out among the other classes
    **options.COMPUTE,
}


@dataclasses.dataclass(frozen=True)
class ClassifyPoints:
    """The functions of the method, over one configuration.

    Attributes:
        model: the network.
        num_groups, group_sizes: of every scale.
        smoothing: of the labels.
    """

    model: PointClassifier
    num_groups: tuple[int, ...]
    group_sizes: tuple[int, ...]
    smoothing: float

    def init(self, key: Array, batch: Batch) -> tuple[Tree, Tree]:
        """(params, {"batch_stats": running statistics})."""
        levels = point_levels(batch["points"][:1], self.num_groups, self.group_sizes)
        variables = self.model.init(key, levels, train=False)
        return variables["params"], {"batch_stats": variables["batch_stats"]}

    def loss(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws, step: Array, static: Hashable
    ) -> tuple[Terms, Aux]:
        """Cross-entropy with smoothed labels; "top1" of the batch."""
        model, sizes, noise = self.model, self.model.size, {}
        if model.drop_path:
            noise["drop_noise"] = draws.uniform("drop_path", (sum(sizes.depths), 2))
        if model.dropout:
            noise["dropout_noise"] = draws.uniform("dropout", (NUM_HIDDEN, model.hidden))
        found, state = self._run(params, extra, batch, train=True, mutable=["batch_stats"], **noise)
        logits, label = found["logits"], batch["label"]
        values = self.errors(logits, label)
        right = Mean((logits.argmax(-1) == label).sum(), len(label))
        terms = {"classification": Term(values.sum(), len(label))}
        return terms, {"top1": right, **running_statistics.as_means(state)}

    def errors(self, logits: Array, label: Array) -> Array:
        """float32[B]: cross-entropy with 1 - s for the true class, s / (K - 1) for each other."""
        classes = self.model.num_classes
        share = self.smoothing * classes / (classes - 1)
        return losses.soft_cross_entropy(logits, label_mixing.soft_labels(label, classes, share))

    def after_update(self, params: Tree, extra: Tree, aux: Aux, step: Array) -> Tree:
        """Takes over the running statistics."""
        return running_statistics.taken_over(extra, aux)

    def encode(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """Of whole clouds: what the head reads as "cls", the mean of the coarsest tokens, and the
        "tokens" themselves."""
        found = self._run(params, extra, batch, train=False)
        tokens = found["tokens"]
        return {"cls": found["features"], "mean": tokens.mean(1), "tokens": tokens}

    def classify(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """ "logits" float32[B, K], and the "features" float32[B, F] that they are made of."""
        found = self._run(params, extra, batch, train=False)
        return {name: found[name] for name in ("logits", "features")}

    def _run(self, params: Tree, extra: Tree, batch: Batch, **given):
        levels = point_levels(batch["points"], self.num_groups, self.group_sizes)
        variables = {"params": params, "batch_stats": extra["batch_stats"]}
        return self.model.apply(variables, levels, **given)


def build(cfg: ConfigDict, example: Batch, schedule: Schedule) -> Method:
    """A classifier of clouds from `config.model`; batches hold "points" and "label".

    Raises:
        UserError: for sizes, shares or data that do not fit each other.
    """
    options.require_fields(example, "points", "label")
    groups, sizes = point_networks.groups(cfg, example)
    encoder = point_networks.size(cfg.encoder, "model.encoder")
    point_networks.check_scales(encoder, len(groups))
    radius = tuple(cfg.radius)
    what = f"must be {len(groups)} numbers, 0 or more: one for each scale"
    fits = len(radius) == len(groups) and all(r >= 0 for r in radius)
    require(fits, "model.radius", radius, what)
    require(cfg.pool in POOLS, "model.pool", cfg.pool, f"one of {', '.join(POOLS)}")
    for key, low in (("num_classes", 2), ("hidden", 1)):
        fits = isinstance(cfg[key], int) and cfg[key] >= low
        require(fits, f"model.{key}", cfg[key], f"must be a whole number, {low} or more")
    for key in ("drop_path", "dropout", "smoothing"):
        point_networks.check_rate(cfg, key)
    head = (cfg.drop_path, cfg.pool, cfg.hidden, cfg.dropout, options.compute(cfg))
    model = PointClassifier(encoder, cfg.num_classes, radius, *head)
    method = ClassifyPoints(model, groups, sizes, cfg.smoothing)
    features = encoder.dims[-1] * (1 + (cfg.pool == "concat"))
    last = [features, *[cfg.hidden] * NUM_HIDDEN, cfg.num_classes]
    forward = encoder_flops(encoder, groups, sizes, groups)
    forward += sum(flops.linear(1, a, b) for a, b in itertools.pairwise(last))
    facts = ("num_points", "num_groups", "group_sizes", "radius", "num_classes", "pool")
    return Method(
        method.init,
        (Phase(method.loss),),
        {"encode": method.encode, "classify": method.classify},
        after_update=method.after_update,
        weights={"params": "params", "batch_stats": "extra/batch_stats"},
        # The official rule: names with "token", which are these there.
        groups=(("^encoder/embeds_", "no_decay"),),
        coupled=True,
        fresh=("norm/*", "head/*"),
        describe={key: cfg[key] for key in facts},
        step_flops=3 * forward,
    )
