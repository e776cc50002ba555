"""CRATE-MAE: masked autoencoding with white-box blocks (MSSA compression, ISTA sparsification).

Pai, Buchanan, Wu, Yu, Ma, "Masked Completion via Structured Diffusion with White-Box Transformers",
ICLR 2024, with the details of the official code. Unlike MAE's, the encoder sees the mask tokens:
they take the places of the hidden patches before it, so masking saves no compute. The decoder has
the encoder's width and works on its output directly.
"""

import dataclasses
from collections.abc import Hashable, Mapping, Sequence

import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from maskjax import losses, masking, options
from maskjax.losses import Term
from maskjax.masking import Draws, TokenSplit
from maskjax.method import Aux, Batch, Method, Phase, Schedule, Terms, Tree, require
from maskjax.nn import flops
from maskjax.nn.crate import DECODER_TAPS, ENCODER_TAPS, CrateBlock, CrateDecoderBlock
from maskjax.nn.crate_autoencoder import Autoencoder
from maskjax.nn.stack import Probe, Stack
from maskjax.nn.vit import Compute, layer_ids
from maskjax.pretext.outputs import features, raster
from maskjax.targets.patch_pixels import PatchPixels

# CRATE-MAE Base of the paper.
DEFAULTS = {
    **options.IMAGE,
    "dim": 768,
    "depth": 12,  # of the encoder
    "decoder_depth": 12,
    "heads": 12,
    "mask_ratio": 0.75,
    "norm_pix": False,  # the official constructor's default
    "ista_step": 0.1,  # eta
    "sparsity": 0.5,  # lambda; supervised CRATE uses 0.1
    "block_eps": 1e-5,  # of the LayerNorms inside blocks
    "norm_eps": 1e-6,  # of the two final LayerNorms
    **options.COMPUTE,
}


@dataclasses.dataclass(frozen=True)
class CrateMAE:
    """The functions of the method, over one configuration."""

    model: Autoencoder
    pixels: PatchPixels
    num_visible: int

    def init(self, key: Array, batch: Batch) -> tuple[Tree, Tree]:
        """(params, {})."""
        ids = jnp.arange(self.pixels.num_tokens, dtype=jnp.int32)[None]
        visible = self.pixels.patches(batch["image"][:1])[:, : self.num_visible]
        split = TokenSplit(ids, (self.num_visible,))
        return self.model.init(key, self.pixels.standardize(visible), split)["params"], {}

    def loss(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws, step: Array, static: Hashable
    ) -> tuple[Terms, Aux]:
        """MAE's: mean squared error over the hidden patches."""
        patches, split = self.pixels.patches(batch["image"]), self.sample(draws)
        require(split.num_hidden > 0, "model.mask_ratio", 0, "hides nothing to predict")
        visible = self.pixels.standardize(masking.tokens.gather(patches, split.visible_ids))
        target = self.pixels.target(masking.tokens.gather(patches, split.hidden_ids))
        prediction, _ = self.model.apply({"params": params}, visible, split)
        errors = losses.squared_error(prediction, target)
        return {"reconstruction": Term(errors.sum(), errors.size)}, {}

    def encode(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """Features of whole images: cls, mean of patch tokens, all tokens (raster, no cls)."""
        return features(self._encode(params, batch)[0])

    def reconstruct(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """Prediction and target of every patch in raster order, and both as images in 0..1."""
        seen = self.activations(params, extra, batch, draws)
        return self.pixels.pictures(batch["image"], seen["prediction"], seen["hidden"])

    def activations(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """Latent [B, 1 + N, D] and prediction [B, N, P] of masked images, in raster order."""
        patches, split = self.pixels.patches(batch["image"]), self.sample(draws)
        visible = self.pixels.standardize(masking.tokens.gather(patches, split.visible_ids))
        variables = {"params": params}
        _, seen = self.model.apply(variables, visible, split, taps=("latent", "all"))
        return {
            "latent": raster(seen["latent"], split),
            "prediction": masking.tokens.restore(seen["all"], split),
            "inverse": split.inverse(),
            "hidden": split.hidden(),
        }

    def layers(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """What each layer does to whole images: for white-box probes and attention maps.

        "encoder" and "decoder" [B, depth, 1 + N, D], "subspace" [B, depth, heads, 1 + N, D / heads]
        (the tokens' coordinates in each subspace), "attention" of cls to the patches
        [B, depth, heads, N], "prenorm" [B, 1 + N, D].
        """
        taps = ("block", "subspace", "attention", "prenorm")
        latent, seen = self._encode(params, batch, taps)
        variables = {"params": params}
        decoder = self.model.apply(variables, latent, taps=("block",), method="decode")
        return {
            "encoder": jnp.moveaxis(seen["block"], 0, 1),
            "decoder": jnp.moveaxis(decoder["block"], 0, 1),
            "subspace": jnp.moveaxis(seen["subspace"], 0, 1),
            "attention": jnp.moveaxis(seen["attention"][..., 0, 1:], 0, 1),
            "prenorm": seen["prenorm"],
        }

    def rates(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """How compressed and how sparse tokens of whole images are, float32[B, depth].

        "encoder_rate", "decoder_rate": coding rate of what a layer's attention reads, in all of
        its subspaces; "encoder_zeros": share of exact zeros in its result.
        """

        def rate(seen: Mapping[str, Array], layer: Array) -> Array:
            return losses.coding_rate(seen["subspace"]).sum(-1)

        def zeros(seen: Mapping[str, Array], layer: Array) -> Array:
            return (seen["block"] == 0).mean((1, 2), dtype=jnp.float32)

        latent, encoder = self._encode(params, batch, probes={"rate": rate, "zeros": zeros})
        variables, probes = {"params": params}, {"rate": rate}
        decoder = self.model.apply(variables, latent, probes=probes, method="decode")
        return {
            "encoder_rate": encoder["rate"].T,
            "encoder_zeros": encoder["zeros"].T,
            "decoder_rate": decoder["rate"].T,
        }

    def sample(self, draws: Draws) -> TokenSplit:
        """Which patches each image shows."""
        noise = draws.uniform("mask", (self.pixels.num_tokens,))
        return masking.random(noise, self.pixels.grid, num_visible=self.num_visible)

    def _encode(
        self,
        params: Tree,
        batch: Batch,
        taps: Sequence[str] = (),
        probes: Mapping[str, Probe] | None = None,
    ) -> tuple[Array, dict]:
        patches = self.pixels.standardize(self.pixels.patches(batch["image"]))
        options = {"taps": taps, "probes": probes, "method": "encode"}
        return self.model.apply({"params": params}, patches, **options)


def build(cfg: ConfigDict, example: Batch, schedule: Schedule) -> Method:
    """CRATE-MAE from `config.model`.

    Raises:
        UserError: for sizes, ratios or data that do not fit each other.
    """
    grid, patch = options.patch_grid(cfg)
    options.check_pixels(cfg, example)
    for key in ("dim", "depth", "decoder_depth", "heads", "ista_step", "block_eps", "norm_eps"):
        require(cfg[key] > 0, f"model.{key}", cfg[key], "must be positive")
    require(cfg.sparsity >= 0, "model.sparsity", cfg.sparsity, "must not be negative")
    require(cfg.dim % 4 == 0, "model.dim", cfg.dim, "must be a multiple of 4 (sin-cos table)")
    fits = cfg.dim % cfg.heads == 0
    require(fits, "model.heads", cfg.heads, f"must divide model.dim = {cfg.dim}")
    patch_dim = patch[0] * patch[1] * cfg.channels
    normalizable = patch_dim > 1 or not cfg.norm_pix
    require(normalizable, "model.norm_pix", cfg.norm_pix, "needs patches of more than one value")
    compute = options.compute(cfg)
    model = Autoencoder(
        grid, patch_dim, cfg.dim, *_stacks(cfg, compute), compute.dtype, cfg.norm_eps
    )
    num_visible = options.visible_tokens(cfg.mask_ratio, grid[0] * grid[1])
    pixels = PatchPixels(grid, patch, cfg.norm_pix, tuple(cfg.mean), tuple(cfg.std))
    crate = CrateMAE(model, pixels, num_visible)
    names = ("encode", "reconstruct", "activations", "layers", "rates")
    return Method(
        crate.init,
        (Phase(crate.loss),),
        {name: getattr(crate, name) for name in names},
        layers=layer_ids(cfg.depth, ""),
        describe={"grid": grid, **{key: cfg[key] for key in ("mask_ratio", "norm_pix")}},
        step_flops=3 * _forward_flops(model, num_visible),
    )


def _stacks(cfg: ConfigDict, compute: Compute) -> tuple[Stack, Stack]:
    dtype = compute.dtype
    encoder = CrateBlock(cfg.heads, cfg.ista_step, cfg.sparsity, cfg.block_eps, dtype, parent=None)
    decoder = CrateDecoderBlock(cfg.heads, cfg.block_eps, dtype, parent=None)
    return (
        Stack(encoder, cfg.depth, compute.scan, compute.remat, taps=ENCODER_TAPS),
        Stack(decoder, cfg.decoder_depth, compute.scan, compute.remat, taps=DECODER_TAPS),
    )


def _forward_flops(model: Autoencoder, num_visible: int) -> int:
    """Matmul FLOPs of the loss for one image: three D x D products a layer in the decoder, four in
    the encoder, and attention."""
    num_tokens, dim = model.grid[0] * model.grid[1], model.dim
    square = flops.linear(num_tokens + 1, dim, dim)
    attention = 2 * 2 * (num_tokens + 1) ** 2 * dim
    return (
        flops.linear(num_visible, model.patch_dim, dim)
        + model.encoder_stack.depth * (4 * square + attention)
        + model.decoder_stack.depth * (3 * square + attention)
        + flops.linear(num_tokens - num_visible, dim, model.patch_dim)
    )
