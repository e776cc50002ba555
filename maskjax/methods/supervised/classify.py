"""Classification: fine-tuning of any encoder, probes of a frozen one, training from scratch.

The forms are those of the official fine-tuning and probing codes of MAE (He et al., CVPR 2022),
SimMIM (Xie et al., CVPR 2022) and CAE (Chen et al. 2022): mean pooling with a norm of its own or
the class token; mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) with smoothed labels; for
probes a BatchNorm without scale and offset, or an attentive pool, on frozen tokens.
`config.init_from` names the encoder's weights: a run of any method, or a file of any layout.
"""

import dataclasses
from collections.abc import Hashable

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from maskjax import losses, options
from maskjax.errors import UserError
from maskjax.losses import Term
from maskjax.masking import Draws
from maskjax.method import Aux, Batch, Mean, Method, Phase, Schedule, Terms, Tree, require
from maskjax.nn import flops
from maskjax.nn.classifier import POOLS, ClassifierHead
from maskjax.nn.sharding import constrain_batch
from maskjax.pretext import image_encoders, running_statistics
from maskjax.pretext.image_encoders import ImageEncoder
from maskjax.targets import label_mixing
from maskjax.targets.label_mixing import Mixing
from maskjax.targets.pixels import standardize

# MAE's fine-tuning of ViT-B/16.
DEFAULTS = {
    **options.IMAGE,
    **image_encoders.DEFAULTS,
    "num_classes": 1000,
    "pool": "gap",  # mean of the tokens, then a new norm; or cls, mean (no norm), attentive
    "batch_norm": False,  # BatchNorm without scale and offset in front of the classifier
    "hidden": 0,  # width of a hidden layer in front of the classifier; 0 = none
    "head_std": 2e-5,  # of the classifier's first weights
    "freeze": False,  # the encoder stays as it is: a probe
    "smoothing": 0.1,  # of the labels
    "mixup": 0.8,  # shares are Beta(a, a); 0 = off
    "cutmix": 1.0,
    "mix_prob": 1.0,  # share of the examples that are mixed
    "mix_switch": 0.5,  # share of CutMix among them
    "mix_stride": 1,  # distance of partners; data.views where that is more than 1
    **options.COMPUTE,
}
STATS = running_statistics.NAME


@dataclasses.dataclass(frozen=True)
class Classify:
    """The functions of the method, over one configuration.

    Attributes:
        cfg: `config.model`.
        encoder, head: the network's two parts.
        mean, std: of the pixels, by channel.
        mixing: mixup and CutMix, or None.
    """

    cfg: ConfigDict
    encoder: ImageEncoder
    head: ClassifierHead
    mixing: Mixing | None

    def init(self, key: Array, batch: Batch) -> tuple[Tree, Tree]:
        """({"encoder", "head", ...}, running statistics of batch norms, if there are any)."""
        images = self._standardized(batch["image"][:1])
        key_encoder, key_head = jax.random.split(key)
        tokens, encoder = self.encoder.init(key_encoder, images)
        head = self.head.init(key_head, tokens)
        params = image_encoders.started(encoder["params"], key_encoder, self.cfg)
        extra = _statistics(encoder.get(STATS, {}), head.get(STATS, {}))
        return {"encoder": params, **head["params"]}, extra

    def loss(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws, step: Array, static: Hashable
    ) -> tuple[Terms, Aux]:
        """Cross-entropy with smoothed labels, mixed if they are; "top1" and "top5" of the batch.

        Where labels are mixed, the one of the larger share counts as right.
        """
        images = self._standardized(batch["image"])
        smoothing, classes = self.cfg.smoothing, self.cfg.num_classes
        targets = label_mixing.soft_labels(batch["label"], classes, smoothing)
        if self.mixing:
            images, targets = label_mixing.mix(images, targets, draws, self.mixing)
            images = constrain_batch(images)
        noise = None
        if self.encoder.blocks and self.cfg.drop_path and not self.cfg.freeze:
            noise = draws.uniform("drop_path", (self.encoder.blocks, 2))
        _, _, logits, extra = self._run(params, extra, images, noise, train=True)
        values = losses.soft_cross_entropy(logits, targets)
        truth, num = targets.argmax(-1), len(targets)
        aux = {name: Mean(right.sum(), num) for name, right in right_at(logits, truth).items()}
        aux |= running_statistics.as_means(extra) if extra else {}
        return {"classification": Term(values.sum(), num)}, aux

    def after_update(self, params: Tree, extra: Tree, aux: Aux, step: Array) -> Tree:
        """Takes over the running statistics."""
        return running_statistics.taken_over(extra, aux) if extra else extra

    def encode(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """Features of whole images: "cls" (without a class token what the classifier reads),
        "mean" of the image's tokens, the "tokens" themselves (raster)."""
        images = self._standardized(batch["image"])
        tokens, features, _, _ = self._run(params, extra, images, None, train=False)
        tokens, first = tokens.astype(jnp.float32), self.encoder.first
        patches = tokens[:, first:]
        cls = tokens[:, 0] if first else features
        return {"cls": cls, "mean": patches.mean(1), "tokens": patches}

    def classify(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """ "logits" float32[B, K], and the "features" float32[B, F] that they are made of."""
        images = self._standardized(batch["image"])
        _, features, logits, _ = self._run(params, extra, images, None, train=False)
        return {"logits": logits, "features": features}

    def _run(
        self, params: Tree, extra: Tree, images: Array, noise: Array | None, *, train: bool
    ) -> tuple[Array, Array, Array, Tree]:
        """Tokens, features, logits, and the new running statistics."""
        stats, trains = extra.get(STATS, {}), train and not self.cfg.freeze
        given = (params["encoder"], stats.get("encoder", {}), images, noise)
        tokens, encoder = self.encoder.apply(*given, train=trains)
        tokens = jax.lax.stop_gradient(tokens) if self.cfg.freeze else tokens
        others = ({k: v for k, v in tree.items() if k != "encoder"} for tree in (params, stats))
        variables, mutable = dict(zip(("params", STATS), others, strict=True)), [STATS] * train
        (features, logits), head = self.head.apply(variables, tokens, train=train, mutable=mutable)
        return tokens, features, logits, _statistics(encoder, head.get(STATS, variables[STATS]))

    def _standardized(self, image: Array) -> Array:
        return standardize(image, self.cfg.mean, self.cfg.std)


def _statistics(encoder: Tree, head: Tree) -> Tree:
    """`extra` of both parts' running statistics, {} where there are none."""
    stats = {**({"encoder": encoder} if encoder else {}), **head}
    return {STATS: stats} if stats else {}


def right_at(logits: Array, truth: Array) -> dict[str, Array]:
    """{"top1", "top5"}: bool[B], whether fewer than 1 or 5 classes score above the true one.

    Classes that score the same as the true one count as above it, so that constant logits, and
    those that are no numbers, are wrong. "top5" is there for more than 5 classes.

    Args:
        logits: float[B, K].
        truth: int[B].
    """
    chosen = jnp.arange(logits.shape[-1]) == truth[:, None]
    own = jnp.where(chosen, logits, 0).sum(-1, keepdims=True)
    above = (~(logits < own) & ~chosen).sum(-1)
    ks = (1, 5) if logits.shape[-1] > 5 else (1,)
    return {f"top{k}": above < k for k in ks}


def build(cfg: ConfigDict, example: Batch, schedule: Schedule) -> Method:
    """A classifier from `config.model`.

    Raises:
        UserError: for sizes, shares or data that do not fit each other.
    """
    options.require_fields(example, "image", "label")
    options.check_pixels(cfg, example)
    _check(cfg)
    encoder = image_encoders.image_encoder(cfg, cfg.pool)
    has_cls = cfg.pool != "cls" or encoder.first > 0
    require(has_cls, "model.pool", cfg.pool, f"a {cfg.backbone} has no class token; take mean")
    own = cfg.pool == "gap" and cfg.backbone not in ("vit", "convnext")
    require(not own, "model.pool", cfg.pool, f"a {cfg.backbone} wants no further norm; take mean")
    heads = cfg.encoder.heads if cfg.backbone == "vit" else max(1, encoder.width // 64)
    form = (cfg.pool, cfg.batch_norm, cfg.hidden, cfg.head_std, heads, cfg.norm_eps)
    head = ClassifierHead(cfg.num_classes, encoder.first, *form, options.dtype(cfg), parent=None)
    mixing = _mixing(cfg)
    classify = Classify(cfg, encoder, head, mixing)
    groups = encoder.groups
    if cfg.freeze:
        groups = (("^encoder/", "frozen"),)
    passes = 1 if cfg.freeze else 3
    last = flops.linear(1, cfg.hidden or encoder.width, cfg.num_classes)
    return Method(
        classify.init,
        (Phase(classify.loss),),
        {"encode": classify.encode, "classify": classify.classify},
        after_update=classify.after_update,
        groups=groups,
        layers=encoder.layers,
        coupled=bool(cfg.batch_norm or (encoder.coupled and not cfg.freeze)),
        together=2 * mixing.stride if mixing else 1,
        weights=encoder.weights,
        fresh=("head/*", "fc_norm/*", "hidden/*", "attentive_pool/*"),
        describe=_facts(cfg, encoder),
        step_flops=passes * encoder.flops + 3 * last if encoder.flops else 0.0,
    )


def _mixing(cfg: ConfigDict) -> Mixing | None:
    try:
        mixing = Mixing(cfg.mixup, cfg.cutmix, cfg.mix_prob, cfg.mix_switch, cfg.mix_stride)
    except UserError as error:
        keys = "mixup, cutmix, mix_prob, mix_switch, mix_stride"
        raise UserError(f"config.model.{keys}: {error}") from error
    return mixing if (cfg.mixup or cfg.cutmix) and cfg.mix_prob else None


def _check(cfg: ConfigDict):
    require(cfg.pool in POOLS, "model.pool", cfg.pool, f"one of {', '.join(POOLS)}")
    for key, low in (("num_classes", 2), ("hidden", 0)):
        fits = isinstance(cfg[key], int) and cfg[key] >= low
        require(fits, f"model.{key}", cfg[key], f"must be a whole number, {low} or more")
    require(0 <= cfg.smoothing < 1, "model.smoothing", cfg.smoothing, "must lie in [0, 1)")
    require(cfg.head_std > 0, "model.head_std", cfg.head_std, "must be positive")


def _facts(cfg: ConfigDict, encoder: ImageEncoder) -> dict:
    """What an exported file carries; a head that layouts have no place for is not described."""
    geometry = dict(encoder.geometry)
    official = not (cfg.batch_norm or cfg.hidden) and cfg.pool != "attentive"
    if official and (cfg.pool != "mean" or cfg.backbone == "swin") and not encoder.weights:
        geometry["num_classes"] = cfg.num_classes
    described = {"geometry": geometry} if geometry else {}
    keys = ("mean", "std", "num_classes", "pool", "freeze")
    return {**described, **{key: cfg[key] for key in keys}}
