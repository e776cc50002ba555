"""Contrastive and supervised training through a projection head that is thrown away afterwards.

Xue, Gan, Ni, Joshi, Mirzasoleiman, "Investigating the Benefits of Projection Head for
Representation Learning", ICLR 2024: the loss sees h(f(x)), the user keeps f(x). Losses: supervised
contrastive (Khosla et al. 2020), NT-Xent (Chen et al. 2020), which is the same with the example as
its own class, and cross-entropy. `predict["encode"]` gives what stands before the head as "mean"
and what comes after it as "cls", so that every evaluator measures both by `config.evaluate.pool`.
"""

import dataclasses
from collections.abc import Hashable

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from maskjax import losses, options
from maskjax.losses import Term
from maskjax.masking import Draws
from maskjax.method import Aux, Batch, Mean, Method, Phase, Schedule, Terms, Tree, require
from maskjax.nn.dense import Dense
from maskjax.nn.projection import KINDS, ProjectionHead
from maskjax.pretext import image_encoders, running_statistics
from maskjax.pretext.image_encoders import ImageEncoder
from maskjax.targets.pixels import standardize

# ResNet-50 of the experiments' code, on Waterbirds and CelebA.
DEFAULTS = {
    **options.IMAGE,
    **image_encoders.DEFAULTS,
    "backbone": "resnet",
    "drop_path": 0.0,
    "loss": "supcon",  # or nt_xent (views of an example), cross_entropy
    "temperature": 0.5,
    "views": 1,  # rows in a row that show the same example: data.views
    "num_classes": 2,  # 0 = the data needs no labels (nt_xent)
    "head": "mlp",  # none, linear, mlp, mlp3, identity, reweight
    "hidden": 2048,
    "features": 2048,
    "kappa": 1.01,  # of reweight
    **options.COMPUTE,
}
STATS = running_statistics.NAME
LOSSES = ("supcon", "nt_xent", "cross_entropy")


@dataclasses.dataclass(frozen=True)
class Contrast:
    """The functions of the method, over one configuration.

    Attributes:
        cfg: `config.model`.
        encoder, head: the network, and what is thrown away.
        classifier: for cross-entropy, else None.
    """

    cfg: ConfigDict
    encoder: ImageEncoder
    head: ProjectionHead
    classifier: Dense | None

    def init(self, key: Array, batch: Batch) -> tuple[Tree, Tree]:
        """({"encoder", "projection", "classifier"}, running statistics if there are any)."""
        keys = jax.random.split(key, 3)
        tokens, encoder = self.encoder.init(keys[0], self._images(batch)[:1])
        pre = self._pooled(tokens)
        head = self.head.init(keys[1], pre)
        params = {"encoder": image_encoders.started(encoder["params"], keys[0], self.cfg)}
        params |= {"projection": head["params"]} if head.get("params") else {}
        if self.classifier:
            post = self.head.apply(head, pre)
            params["classifier"] = self.classifier.init(keys[2], post)["params"]
        return params, self._extra(encoder.get(STATS, {}))

    def loss(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws, step: Array, static: Hashable
    ) -> tuple[Terms, Aux]:
        """The chosen loss of h(f(x)), a mean over the rows of the whole batch."""
        noise = None
        if self.encoder.blocks and self.cfg.drop_path:
            noise = draws.uniform("drop_path", (self.encoder.blocks, 2))
        images = self._images(batch)
        stats = extra.get(STATS, {}).get("encoder", {})
        tokens, stats = self.encoder.apply(params["encoder"], stats, images, noise, train=True)
        extra = self._extra(stats)
        post = self._projected(params, self._pooled(tokens))
        num, aux = len(post), running_statistics.as_means(extra) if extra else {}
        if self.classifier:
            logits = self.classifier.apply({"params": params["classifier"]}, post)
            values = losses.cross_entropy(logits, batch["label"])
            aux["top1"] = Mean((logits.argmax(-1) == batch["label"]).sum(), num)
        else:
            own = jnp.arange(num) // self.cfg.views
            labels = own if self.cfg.loss == "nt_xent" else batch["label"]
            values = losses.supervised_contrastive(post, labels, self.cfg.temperature)
        return {self.cfg.loss: Term(values.sum(), num)}, aux

    def after_update(self, params: Tree, extra: Tree, aux: Aux, step: Array) -> Tree:
        """Takes over the running statistics."""
        return running_statistics.taken_over(extra, aux) if extra else extra

    def encode(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """Before the head as "mean" [B, F], after it as "cls" [B, F'], and all "tokens"."""
        images = self._images(batch)
        stats = extra.get(STATS, {}).get("encoder", {})
        tokens, _ = self.encoder.apply(params["encoder"], stats, images, train=False)
        pre = self._pooled(tokens)
        patches = tokens[:, self.encoder.first :].astype(jnp.float32)
        return {"mean": pre, "cls": self._projected(params, pre), "tokens": patches}

    @staticmethod
    def _extra(stats: Tree) -> Tree:
        return {STATS: {"encoder": stats}} if stats else {}

    def _pooled(self, tokens: Array) -> Array:
        return tokens[:, self.encoder.first :].astype(jnp.float32).mean(1)

    def _projected(self, params: Tree, pre: Array) -> Array:
        return self.head.apply({"params": params.get("projection", {})}, pre)

    def _images(self, batch: Batch) -> Array:
        return standardize(batch["image"], self.cfg.mean, self.cfg.std)


def build(cfg: ConfigDict, example: Batch, schedule: Schedule) -> Method:
    """Training through a head, from `config.model`.

    Raises:
        UserError: for sizes or data that do not fit each other.
    """
    require(cfg.loss in LOSSES, "model.loss", cfg.loss, f"one of {', '.join(LOSSES)}")
    require(cfg.head in KINDS, "model.head", cfg.head, f"one of {', '.join(KINDS)}")
    for key in ("temperature", "kappa", "hidden", "features", "views"):
        require(cfg[key] > 0, f"model.{key}", cfg[key], "must be positive")
    views = cfg.loss != "nt_xent" or cfg.views > 1
    require(views, "model.views", cfg.views, "nt_xent needs two or more, as many as data.views")
    options.require_fields(example, "image", *(() if cfg.loss == "nt_xent" else ("label",)))
    options.check_pixels(cfg, example)
    encoder = image_encoders.image_encoder(cfg, "mean")
    dtype = options.dtype(cfg)
    form = (cfg.head, cfg.hidden, cfg.features, cfg.kappa, dtype)
    head = ProjectionHead(*form, parent=None)
    classes = cfg.loss == "cross_entropy"
    classifier = Dense(cfg.num_classes, parent=None) if classes else None
    contrast = Contrast(cfg, encoder, head, classifier)
    return Method(
        contrast.init,
        (Phase(contrast.loss),),
        {"encode": contrast.encode},
        after_update=contrast.after_update,
        groups=encoder.groups,
        layers=encoder.layers,
        coupled=not classes or encoder.coupled,
        weights=encoder.weights,
        fresh=("projection/*", "classifier/*"),
        describe=({"geometry": encoder.geometry} if encoder.geometry else {})
        | {key: cfg[key] for key in ("mean", "std", "loss", "head")},
        step_flops=3.0 * encoder.flops,
    )
