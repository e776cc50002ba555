"""CAE: hidden patches are predicted in the encoder's own latent space, then as visual tokens.

Chen, Ding, Wang, et al., "Context Autoencoder for Self-Supervised Representation Learning", IJCV
2024, with the details of the official code. The encoder sees visible patches only. A regressor
predicts the latents of the hidden ones, which are aligned with what the same encoder, without
gradient, makes of them; a decoder that sees nothing else predicts their ids under a frozen
tokenizer. What is evaluated is the encoder alone.
"""

import dataclasses
from collections.abc import Hashable, Mapping

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from maskjax import losses, masking, options
from maskjax.losses import Term
from maskjax.masking import Draws, TokenSplit
from maskjax.method import Aux, Batch, Mean, Method, Phase, Schedule, Terms, Tree, require
from maskjax.nn import flops
from maskjax.nn.context_autoencoder import ContextAutoencoder
from maskjax.nn.geometry import Geometry
from maskjax.nn.vit import Size, layer_ids
from maskjax.pretext import block_mask, token_optimization, visual_tokens
from maskjax.pretext.block_mask import BlockMask
from maskjax.pretext.outputs import features
from maskjax.pretext.token_optimization import TokenOptimization
from maskjax.pretext.visual_tokens import Tokenizer
from maskjax.targets.patch_pixels import PatchPixels

# ViT-B/16 of the paper. mean and std are ImageNet's.
DEFAULTS = {
    "image_size": (224, 224),
    "patch_size": (16, 16),
    "channels": 3,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "encoder": dataclasses.asdict(Size(768, 12, 12)),
    "decoder": dataclasses.asdict(Size(768, 4, 12)),  # width and heads of the regressor too
    "regressor_depth": 4,
    "mask_ratio": 0.5,
    "mask": block_mask.MASK,
    "qkv_bias": True,  # of query and value; the key has none
    "layer_scale": 0.1,  # 1e-5 for the large model; 0 = none
    "drop_path": 0.1,
    "align_weight": 2.0,
    "norm_eps": 1e-6,
    "tokenizer": visual_tokens.TOKENIZER,
    # A reconstruction, for the regressor: its queries are mask tokens only, and so `sparsity` and
    # `beta`, which are about visible queries, stay 0.
    "mto": {**token_optimization.DEFAULTS, "sparsity": 0.0, "beta": 0.0},
    **options.COMPUTE,
}


@dataclasses.dataclass(frozen=True)
class CAE:
    """The functions of the method, over one configuration."""

    model: ContextAutoencoder
    pixels: PatchPixels
    mask: BlockMask
    tokenizer: Tokenizer
    align_weight: float
    mto: TokenOptimization | None = None

    def init(self, key: Array, batch: Batch) -> tuple[Tree, Tree]:
        """(params, {"tokenizer": its parameters, from the file later})."""
        ids = jnp.arange(self.pixels.num_tokens, dtype=jnp.int32)[None]
        split = TokenSplit(ids, (self.mask.num_visible,))
        visible = self.pixels.patches(batch["image"][:1])[:, : self.mask.num_visible]
        params = self.model.init(key, self.pixels.standardize(visible), split)["params"]
        return params, {"tokenizer": self.tokenizer.init(jax.random.fold_in(key, 1))}

    def loss(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws, step: Array, static: Hashable
    ) -> tuple[Terms, Aux]:
        """Cross-entropy of the hidden tokens + `align_weight` times the error of their latents.

        The target latents come from the current weights, not from an average. No gradient flows
        through them, so that of the alignment reaches the encoder by the visible patches only.
        """
        split = self.mask.sample(draws)
        require(split.num_hidden > 0, "model.mask_ratio", 0, "hides nothing to predict")
        visible, hidden = self._patches(batch, split)
        noise = self._drop_noise(draws)
        probes = self.mto and self.mto.cross_probes
        _, predicted, logits, seen = self.model.apply(
            {"params": params}, visible, split, noise, probes
        )
        target = self._target(params, hidden, split, noise.get("target"))
        ids = self._hidden_ids(extra, batch, split)
        errors = losses.cross_entropy(logits, ids)
        distance = losses.squared_error(predicted, target)
        terms = {
            "tokens": Term(errors.sum(), errors.size),
            "alignment": Term(distance.sum(), distance.size, self.align_weight),
        }
        if self.mto:
            # Every query is a mask token.
            queries = jnp.ones(ids.shape, bool)
            terms |= self.mto.terms(seen, ~queries, queries, step)
        right = (logits.argmax(-1) == ids).sum(dtype=jnp.float32)
        return terms, {"token_accuracy": Mean(right, ids.size)}

    def encode(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """Features of whole images: cls, mean of patch tokens, all tokens (raster, no cls)."""
        patches = self.pixels.standardize(self.pixels.patches(batch["image"]))
        return features(self.model.apply({"params": params}, patches, method="encode"))

    def tokens(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """The map of visual tokens, and what is predicted for it where patches are hidden.

        "original" float32[B, H, W, C] in 0..1, "hidden" bool[B, N], "ids" int32[B, N], "predicted"
        int32[B, N] (-1 where the patch is visible).
        """
        split = self.mask.sample(draws)
        visible, _ = self._patches(batch, split)
        _, _, logits, _ = self.model.apply({"params": params}, visible, split)
        guess = logits.argmax(-1).astype(jnp.int32)[..., None]
        unseen = jnp.full((len(guess), split.num_visible, 1), -1, jnp.int32)
        predicted = masking.tokens.restore(jnp.concatenate([unseen, guess], 1), split)[..., 0]
        raw = self.pixels.standardize(self.pixels.patches(batch["image"]))
        return {
            "original": self.pixels.picture(raw, raw),
            "hidden": split.hidden(),
            "ids": self.tokenizer.ids(extra["tokenizer"], batch),
            "predicted": predicted,
        }

    def reconstruct(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """Images decoded from the predicted tokens and, where patches are visible, the true ones.

        As `PatchPixels.pictures` gives them; needs the tokenizer's decoder.
        """
        seen = self.tokens(params, extra, batch, draws)
        ids = jnp.where(seen["hidden"], seen["predicted"], seen["ids"])
        image = self.tokenizer.decode(extra["tokenizer"], ids)
        image = jax.image.resize(image, batch["image"].shape, "linear")
        return self.pixels.pictures(batch["image"], self.pixels.values(image), seen["hidden"])

    def activations(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """Everything between input and loss, in the order of `visible_ids` and `hidden_ids`.

        "latent" [B, 1 + K, D] (cls first), "predicted" and "target" [B, M, E], "logits" [B, M, V].
        """
        split = self.mask.sample(draws)
        visible, hidden = self._patches(batch, split)
        latent, predicted, logits, _ = self.model.apply({"params": params}, visible, split)
        return {
            "latent": latent,
            "predicted": predicted,
            "target": self._target(params, hidden, split),
            "logits": logits,
            "visible_ids": split.visible_ids,
            "hidden_ids": split.hidden_ids,
            "hidden": split.hidden(),
        }

    def _patches(self, batch: Batch, split: TokenSplit) -> tuple[Array, Array]:
        """Visible and hidden patches, standardised, in the order of `split`."""
        patches = self.pixels.patches(batch["image"])
        visible, hidden = (
            self.pixels.standardize(masking.tokens.gather(patches, ids))
            for ids in (split.visible_ids, split.hidden_ids)
        )
        return visible, hidden

    def _target(
        self, params: Tree, hidden: Array, split: TokenSplit, noise: Array | None = None
    ) -> Array:
        frozen, hidden = jax.lax.stop_gradient((params, hidden))
        args = ({"params": frozen}, hidden, split.hidden_ids, noise)
        return self.model.apply(*args, method="target")

    def _hidden_ids(self, extra: Tree, batch: Batch, split: TokenSplit) -> Array:
        ids = self.tokenizer.ids(extra["tokenizer"], batch)
        return jnp.take_along_axis(ids, split.hidden_ids, axis=1)

    def _drop_noise(self, draws: Draws) -> Mapping[str, Array]:
        """Of the four stacks, each on its own; {} where nothing is dropped."""
        if not self.model.drop_path:
            return {}
        encoder, decoder = self.model.geometry.depth, self.model.decoder_size.depth
        depths = {"encoder": encoder, "target": encoder, "decoder": decoder}
        depths["regressor"] = self.model.regressor_depth
        return {name: draws.uniform(f"drop_path/{name}", (n, 2)) for name, n in depths.items()}


def build(cfg: ConfigDict, example: Batch, schedule: Schedule) -> Method:
    """CAE from `config.model`.

    Raises:
        UserError: for sizes, ratios or data that do not fit each other.
    """
    grid, patch = options.patch_grid(cfg)
    options.check_pixels(cfg, example)
    require(patch[0] == patch[1], "model.patch_size", patch, "must be square")
    for key, highest in (("drop_path", 1), ("layer_scale", jnp.inf), ("align_weight", jnp.inf)):
        what = "must be at least 0" + (f" and below {highest}" if highest == 1 else "")
        require(0 <= cfg[key] < highest, f"model.{key}", cfg[key], what)
    require(cfg.norm_eps > 0, "model.norm_eps", cfg.norm_eps, "must be positive")
    compute, pixels = options.compute(cfg), (tuple(cfg.mean), tuple(cfg.std))
    cae = CAE(
        _model(cfg, patch[0]),
        PatchPixels(grid, patch, False, *pixels),
        block_mask.block_mask(cfg, grid, "cae"),
        visual_tokens.tokenizer(cfg, example, grid, compute.dtype),
        cfg.align_weight,
        _mto(cfg, schedule),
    )
    names = ["encode", "tokens", "activations"]
    names += ["reconstruct"] if cae.tokenizer.decoder else []
    facts = {key: cfg[key] for key in ("mask_ratio", "mean", "std")}
    facts |= {"grid": grid, "vocab": cfg.tokenizer.vocab}
    return Method(
        cae.init,
        (Phase(cae.loss),),
        {name: getattr(cae, name) for name in names},
        load={"extra/tokenizer": "model.tokenizer"} if cae.tokenizer.encoder else {},
        layers=layer_ids(cfg.encoder.depth),
        describe={"geometry": dataclasses.asdict(cae.model.geometry), **facts},
        step_flops=_step_flops(cae),
    )


def _model(cfg: ConfigDict, patch_size: int) -> ContextAutoencoder:
    encoder = options.size(cfg.encoder, "model.encoder")
    decoder = options.size(cfg.decoder, "model.decoder")
    depth = cfg.regressor_depth
    require(
        isinstance(depth, int) and depth > 0, "model.regressor_depth", depth, "must be positive"
    )
    geometry = Geometry(
        image_size=options.pair(cfg.image_size, "model.image_size"),
        patch_size=patch_size,
        channels=cfg.channels,
        dim=encoder.dim,
        depth=encoder.depth,
        heads=encoder.heads,
        mlp_hidden=encoder.mlp_hidden,
        position="sincos_rows",
        qkv_bias="query_value" if cfg.qkv_bias else "none",
        layer_scale=cfg.layer_scale > 0,
        eps=cfg.norm_eps,
    )
    scales = (cfg.layer_scale, cfg.drop_path)
    vocab = cfg.tokenizer.vocab
    return ContextAutoencoder(geometry, decoder, depth, vocab, *scales, options.compute(cfg))


def _mto(cfg: ConfigDict, schedule: Schedule) -> TokenOptimization | None:
    for key in ("sparsity", "beta"):
        what = "must be 0: the regressor has no visible queries"
        require(not cfg.mto[key], f"model.mto.{key}", cfg.mto[key], what)
    depth, steps = cfg.regressor_depth, schedule.total_steps
    return token_optimization.token_optimization(cfg.mto, depth, steps)


def _step_flops(cae: CAE) -> float:
    """Three forward passes of the predicting branch, one of the target's and of the tokenizer."""
    model, g = cae.model, cae.model.geometry
    visible = cae.mask.num_visible
    hidden = g.num_patches - visible
    encoder = Size(g.dim, g.depth, g.heads, g.mlp_hidden / g.dim)
    decoder = model.decoder_size
    regressor = dataclasses.replace(decoder, depth=model.regressor_depth)

    def encoded(tokens: int) -> int:
        projected = flops.linear(tokens, g.dim, decoder.dim) * (g.dim != decoder.dim)
        patches = flops.linear(tokens, g.patch_values, g.dim)
        return patches + flops.transformer(tokens + 1, encoder) + projected

    predicted = (
        flops.cross_transformer(hidden, visible + hidden, regressor)
        + flops.transformer(hidden, decoder)
        + flops.linear(hidden, decoder.dim, model.vocab)
    )
    return 3 * (encoded(visible) + predicted) + encoded(hidden) + cae.tokenizer.flops
