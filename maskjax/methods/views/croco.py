"""CroCo: a masked view of a scene, completed from another view of it.

Weinzaepfel, Leroy, Lucas, Brégier, Cabon, Arora, Antsfeld, Chidlovskii, Csurka, Revaud, "CroCo:
Self-Supervised Pre-training for 3D Vision Tasks by Cross-View Completion", NeurIPS 2022, and
"CroCo v2", ICCV 2023 (rotary positions, a larger decoder), with the details of the official code.
One encoder sees a tenth of the first view and all of the second; the decoder's tokens of the first
look at those of the second.
"""

import dataclasses
from collections.abc import Hashable

import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from maskjax import losses, masking, options
from maskjax.losses import Term
from maskjax.masking import Draws, TokenSplit
from maskjax.masking.counts import count_hidden
from maskjax.method import Aux, Batch, Method, Phase, Schedule, Terms, Tree, require
from maskjax.nn.cross_view import CrossViewAutoencoder, forward_flops
from maskjax.nn.geometry import Geometry
from maskjax.nn.vit import Size, layer_ids
from maskjax.pretext.outputs import patch_features
from maskjax.targets.patch_pixels import PatchPixels

# ViT-B/16 with the small decoder of the first paper.
DEFAULTS = {
    **options.IMAGE,
    "encoder": dataclasses.asdict(Size(768, 12, 12)),
    "decoder": dataclasses.asdict(Size(512, 8, 16)),
    "mask_ratio": 0.9,  # of the first view; the second is never masked
    "rotary": 0,  # base of rotary positions, 100 in v2; 0 = sin-cos positions are added (v1)
    "norm_pix": True,
    "norm_eps": 1e-6,
    **options.COMPUTE,
}


@dataclasses.dataclass(frozen=True)
class CroCo:
    """The functions of the method, over one configuration.

    Attributes:
        model: encoder and decoder.
        pixels: patches, inputs and targets.
        num_visible: K, patches of the first view that are shown.
    """

    model: CrossViewAutoencoder
    pixels: PatchPixels
    num_visible: int

    def init(self, key: Array, batch: Batch) -> tuple[Tree, Tree]:
        """(params, {})."""
        ids = jnp.arange(self.pixels.num_tokens, dtype=jnp.int32)[None]
        split = TokenSplit(ids, (self.num_visible,))
        patches = self._patches(batch["image"][:1])
        visible = patches[:, : self.num_visible]
        return self.model.init(key, visible, split, patches)["params"], {}

    def loss(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws, step: Array, static: Hashable
    ) -> tuple[Terms, Aux]:
        """Mean squared error over the hidden patches of "image", completed from "other"."""
        patches, split = self.pixels.patches(batch["image"]), self.sample(draws)
        require(split.num_hidden > 0, "model.mask_ratio", 0, "hides nothing to predict")
        visible = self.pixels.standardize(masking.tokens.gather(patches, split.visible_ids))
        target = self.pixels.target(masking.tokens.gather(patches, split.hidden_ids))
        other = self._patches(batch["other"])
        prediction = self.model.apply({"params": params}, visible, split, other)
        errors = losses.squared_error(prediction, target)
        return {"reconstruction": Term(errors.sum(), errors.size)}, {}

    def sample(self, draws: Draws) -> TokenSplit:
        """Which patches of the first view are shown.

        The official law: entry i of the permutation that sorts the noise decides about patch i.
        """
        num = self.pixels.num_tokens
        order = jnp.argsort(draws.uniform("mask", (num,)), axis=-1)
        hidden = order < num - self.num_visible
        return masking.from_hidden(hidden, num_visible=self.num_visible)[0]

    def encode(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """Features of whole images "image": mean of the tokens, all tokens (raster)."""
        return patch_features(self._encode(params, batch["image"]))

    def decode(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """What heads for two views build on, nothing hidden: "tokens" [B, N, Dd] of "image" that
        have looked at "other", and both views' "first" and "second" [B, N, D]."""
        first, second = (self._encode(params, batch[name]) for name in ("image", "other"))
        tokens = self.model.apply({"params": params}, first, second, method="decode")
        return {"tokens": tokens, "first": first, "second": second}

    def reconstruct(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """Prediction and target of every patch of "image" in raster order, both as images in 0..1,
        and the other view."""
        seen = self.activations(params, extra, batch, draws)
        found = self.pixels.pictures(batch["image"], seen["prediction"], seen["hidden"])
        plain = dataclasses.replace(self.pixels, norm_pix=False)
        other = self._patches(batch["other"])
        return {**found, "other": plain.picture(other, other)}

    def activations(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """Between input and prediction: "visible" [B, K, D] in the order of `visible_ids`, "second"
        [B, N, D], "decoder" [B, N, Dd] and "prediction" [B, N, P] in raster order, "hidden"."""
        patches, split = self._patches(batch["image"]), self.sample(draws)
        visible = masking.tokens.gather(patches, split.visible_ids)
        first = self._encode(params, visible, split.visible_ids)
        second = self._encode(params, batch["other"])
        variables = {"params": params}
        features = self.model.apply(variables, first, second, split, method="decode")
        features = masking.tokens.restore(features, split)
        return {
            "visible": first,
            "second": second,
            "decoder": features,
            "prediction": self.model.apply(variables, features, method="predict"),
            "hidden": split.hidden(),
        }

    def _patches(self, image: Array) -> Array:
        return self.pixels.standardize(self.pixels.patches(image))

    def _encode(self, params: Tree, view: Array, ids: Array | None = None) -> Array:
        """An image [B, H, W, C], or patches of one with their ids -> tokens."""
        patches = self._patches(view) if ids is None else view
        return self.model.apply({"params": params}, patches, ids, method="encode")


def build(cfg: ConfigDict, example: Batch, schedule: Schedule) -> Method:
    """CroCo from `config.model`; batches hold two views, "image" and "other".

    Raises:
        UserError: for sizes, ratios or data that do not fit each other.
    """
    grid, patch = options.patch_grid(cfg)
    options.require_fields(example, "image", "other")
    options.check_pixels(cfg, example)
    require(patch[0] == patch[1], "model.patch_size", patch, "must be square")
    decoder = options.size(cfg.decoder, "model.decoder")
    geometry = _geometry(cfg, patch[0], decoder)
    num_visible = _num_visible(cfg, grid[0] * grid[1])
    compute = options.compute(cfg)
    model = CrossViewAutoencoder(geometry, decoder, compute)
    pixels = PatchPixels(grid, patch, cfg.norm_pix, tuple(cfg.mean), tuple(cfg.std))
    croco = CroCo(model, pixels, num_visible)
    names = ("encode", "decode", "reconstruct", "activations")
    facts = {key: cfg[key] for key in ("mask_ratio", "norm_pix", "norm_eps", "mean", "std")}
    return Method(
        croco.init,
        (Phase(croco.loss),),
        {name: getattr(croco, name) for name in names},
        layers=layer_ids(geometry.depth),
        describe={"geometry": dataclasses.asdict(geometry), "grid": grid, **facts},
        step_flops=3 * forward_flops(model, num_visible),
    )


def _num_visible(cfg: ConfigDict, num_tokens: int) -> int:
    """Patches of the first view that are shown: all but int(N * ratio)."""
    fits = isinstance(cfg.mask_ratio, int | float) and 0 <= cfg.mask_ratio < 1
    require(fits, "model.mask_ratio", cfg.mask_ratio, "must be a number in [0, 1)")
    return num_tokens - count_hidden(num_tokens, cfg.mask_ratio)


def _geometry(cfg: ConfigDict, patch: int, decoder: Size) -> Geometry:
    """Of the encoder: no class token; positions are added, or turn queries and keys."""
    size = options.size(cfg.encoder, "model.encoder")
    require(cfg.norm_eps > 0, "model.norm_eps", cfg.norm_eps, "must be positive")
    whole = isinstance(cfg.rotary, int) and cfg.rotary >= 0
    require(whole, "model.rotary", cfg.rotary, "must be a positive int, or 0")
    for path, one in (("encoder", size), ("decoder", decoder)):
        fits = not cfg.rotary or one.dim // one.heads % 4 == 0
        what = "rotary positions need heads of a multiple of 4 channels"
        require(fits, f"model.{path}.heads", one.heads, what)
    return Geometry(
        image_size=options.pair(cfg.image_size, "model.image_size"),
        patch_size=patch,
        channels=cfg.channels,
        dim=size.dim,
        depth=size.depth,
        heads=size.heads,
        mlp_hidden=size.mlp_hidden,
        position="none" if cfg.rotary else "sincos",
        rotary=cfg.rotary,
        cls=False,
        eps=cfg.norm_eps,
    )
