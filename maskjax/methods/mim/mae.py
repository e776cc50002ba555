"""MAE: an asymmetric masked autoencoder on pixels.

He, Chen, Xie, Li, Dollar, Girshick, "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022,
with the details of the official PyTorch code. The encoder sees a random quarter of the patches;
a small decoder predicts the (patch-normalised) pixels of the others.
"""

import dataclasses
from collections.abc import Hashable, Mapping, Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from maskjax import losses, masking, options
from maskjax.losses import Term
from maskjax.masking import Draws, TokenSplit
from maskjax.method import Aux, Batch, Method, Phase, Schedule, Terms, Tree, require
from maskjax.nn import flops
from maskjax.nn.decoder import Decoder
from maskjax.nn.vit import Compute, Encoder, Size, layer_ids
from maskjax.targets import pixels

# ViT-B/16 of the paper. mean and std are ImageNet's.
DEFAULTS = {
    "image_size": (224, 224),
    "patch_size": (16, 16),
    "channels": 3,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "encoder": dataclasses.asdict(Size(768, 12, 12)),
    "decoder": dataclasses.asdict(Size(512, 8, 16)),
    "mask_ratio": 0.75,
    "norm_pix": True,
    "norm_eps": 1e-6,  # of every LayerNorm; Hugging Face's ViTMAE defaults to 1e-12
    **options.COMPUTE,
}


class Autoencoder(nn.Module):
    """Encoder over visible patches and decoder over all."""

    encoder_size: Size
    decoder_size: Size
    grid: tuple[int, int]
    patch_dim: int
    compute: Compute
    eps: float = 1e-6

    def setup(self):
        shared = (self.grid, self.patch_dim, self.compute)
        self.encoder = Encoder(self.encoder_size, *shared, eps=self.eps)
        self.decoder = Decoder(self.decoder_size, *shared, eps=self.eps)

    def __call__(
        self, visible: Array, split: TokenSplit, *, taps: Sequence[str] = ()
    ) -> tuple[Array, dict[str, dict[str, Array]]]:
        """Visible patches [B, K, P] -> prediction for the hidden ones [B, N - K, P], taps."""
        inner = [tap for tap in taps if tap != "all"]
        latent, encoder = self.encoder(visible, split.visible_ids, taps=inner)
        prediction, decoder = self.decoder(latent, split, taps=taps)
        return prediction, {"encoder": {**encoder, "latent": latent}, "decoder": decoder}

    def encode(self, patches: Array) -> Array:
        """All patches [B, N, P] in raster order -> latent float32[B, 1 + N, D]."""
        return self.encoder(patches)[0]

    def embed(self, patches: Array) -> Array:
        """All patches [B, N, P] -> tokens [B, N, D] before positions."""
        return self.encoder.embed(patches)


@dataclasses.dataclass(frozen=True)
class MAE:
    """The functions of the method, over one configuration."""

    model: Autoencoder
    grid: tuple[int, int]
    patch: tuple[int, int]
    num_visible: int
    norm_pix: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def init(self, key: Array, batch: Batch) -> tuple[Tree, Tree]:
        """(params, {})."""
        patches, split = self.patches(batch), self.split(Draws.replay(self._raster_noise()))
        visible = masking.tokens.gather(patches[:1], split.visible_ids)
        return self.model.init(key, self.standardize(visible), split)["params"], {}

    def loss(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws, step: Array, static: Hashable
    ) -> tuple[Terms, Aux]:
        """Mean squared error over the hidden patches, in shuffled order: no scatter, one sort.

        Raw patches are gathered before the projection, so that only a quarter of them is
        projected and no gradient flows through a gather.
        """
        patches, split = self.patches(batch), self.split(draws)
        require(split.num_hidden > 0, "model.mask_ratio", 0, "hides nothing to predict")
        visible = self.standardize(masking.tokens.gather(patches, split.visible_ids))
        target = self.target(masking.tokens.gather(patches, split.hidden_ids))
        prediction, _ = self.model.apply({"params": params}, visible, split)
        errors = losses.squared_error(prediction, target)
        return {"reconstruction": Term(errors.sum(), errors.size)}, {}

    def encode(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """Features of whole images: cls, mean of patch tokens, all tokens (raster, no cls)."""
        patches = self.standardize(self.patches(batch))
        latent = self.model.apply({"params": params}, patches, method="encode")
        latent = latent.astype(jnp.float32)
        return {"cls": latent[:, 0], "mean": latent[:, 1:].mean(1), "tokens": latent[:, 1:]}

    def reconstruct(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """Prediction and target of every patch in raster order, and both as images in 0..1."""
        seen = self.activations(params, extra, batch, draws)
        raw = self.standardize(self.patches(batch))
        return {
            "prediction": seen["prediction"],
            "target": self.target(self.patches(batch)),
            "hidden": seen["hidden"],
            "pixels": self.image(seen["prediction"], raw),
            "original": self.image(self.target(raw), raw),
        }

    def activations(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """Everything between input and prediction; decoder tokens and patches in raster order.

        `encoder_*` and `latent` are [B, 1 + K, D] in the order of `visible_ids`; `decoder_*` are
        [B, 1 + N, D]; `*_blocks` have a depth axis after the batch.
        """
        patches, split = self.patches(batch), self.split(draws)
        variables = {"params": params}
        visible = self.standardize(masking.tokens.gather(patches, split.visible_ids))
        taps = ("input", "block", "all")
        _, seen = self.model.apply(variables, visible, split, taps=taps)
        encoder, decoder = seen["encoder"], seen["decoder"]
        embed = self.model.apply(variables, self.standardize(patches), method="embed")
        return {
            "patch_embed": embed,
            "encoder_input": encoder["input"],
            "encoder_blocks": jnp.moveaxis(encoder["block"], 0, 1),
            "latent": encoder["latent"],
            "decoder_input": _raster(decoder["input"], split),
            "decoder_blocks": jnp.stack([_raster(x, split) for x in decoder["block"]], 1),
            "prediction": masking.tokens.restore(decoder["all"], split),
            "visible_ids": split.visible_ids,
            "inverse": split.inverse(),
            "hidden": split.hidden(),
        }

    def split(self, draws: Draws) -> TokenSplit:
        """Which patches each image shows."""
        noise = draws.uniform("mask", (self.grid[0] * self.grid[1],))
        return masking.random(noise, self.grid, num_visible=self.num_visible)

    def patches(self, batch: Batch) -> Array:
        """[B, N, P] raw patches."""
        return masking.patchify(batch["image"], self.patch)

    def standardize(self, patches: Array) -> Array:
        """Network input, float32."""
        return pixels.standardize(patches, self.mean, self.std)

    def target(self, patches: Array) -> Array:
        """What is predicted for these raw patches, float32."""
        patches = self.standardize(patches)
        return pixels.normalize_patches(patches) if self.norm_pix else patches

    def image(self, values: Array, raw: Array) -> Array:
        """Values in target space [B, N, P] -> image [B, H, W, C] in 0..1 (clipped).

        Patch normalisation is undone with the moments of the true patches `raw`.
        """
        if self.norm_pix:
            values = pixels.denormalize_patches(values, raw)
        values = pixels.unstandardize(values, self.mean, self.std)
        return masking.unpatchify(values, self.grid, self.patch).clip(0, 1)

    def _raster_noise(self) -> Mapping[str, Array]:
        return {"mask": jnp.arange(self.grid[0] * self.grid[1], dtype=jnp.float32)[None]}


def _raster(tokens: Array, split: TokenSplit) -> Array:
    """[B, 1 + N, D]: cls stays in front, the others go back to raster order."""
    restored = masking.tokens.restore(tokens[:, 1:], split)
    return jnp.concatenate([tokens[:, :1], restored], axis=1)


def build(cfg: ConfigDict, example: Batch, schedule: Schedule) -> Method:
    """MAE from `config.model`.

    Raises:
        UserError: for sizes, ratios or data that do not fit each other.
    """
    grid, patch = options.patch_grid(cfg)
    options.check_pixels(cfg, example)
    patch_dim = patch[0] * patch[1] * cfg.channels
    encoder = options.size(cfg.encoder, "model.encoder")
    decoder = options.size(cfg.decoder, "model.decoder")
    # One value has no variance of its own: the target would be NaN.
    normalizable = patch_dim > 1 or not cfg.norm_pix
    require(normalizable, "model.norm_pix", cfg.norm_pix, "needs patches of more than one value")
    require(cfg.norm_eps > 0, "model.norm_eps", cfg.norm_eps, "must be positive")
    model = Autoencoder(encoder, decoder, grid, patch_dim, options.compute(cfg), cfg.norm_eps)
    num_visible = options.visible_tokens(cfg.mask_ratio, grid[0] * grid[1])
    mae = MAE(model, grid, patch, num_visible, cfg.norm_pix, tuple(cfg.mean), tuple(cfg.std))
    predict = {
        "encode": mae.encode,
        "reconstruct": mae.reconstruct,
        "activations": mae.activations,
    }
    return Method(
        mae.init,
        (Phase(mae.loss),),
        predict,
        layers=layer_ids(encoder.depth),
        describe=_facts(cfg, encoder, decoder),
        step_flops=3 * _forward_flops(model, num_visible),
    )


def _facts(cfg: ConfigDict, encoder: Size, decoder: Size) -> dict:
    """What an exported file carries."""
    patch = options.pair(cfg.patch_size, "model.patch_size")
    geometry = {
        "image_size": options.pair(cfg.image_size, "model.image_size"),
        "patch_size": patch[0] if patch[0] == patch[1] else patch,
        "channels": cfg.channels,
        "dim": encoder.dim,
        "depth": encoder.depth,
        "heads": encoder.heads,
        "mlp_hidden": encoder.mlp_hidden,
        "decoder_dim": decoder.dim,
        "decoder_depth": decoder.depth,
        "decoder_heads": decoder.heads,
        "decoder_mlp_hidden": decoder.mlp_hidden,
    }
    keys = ("mask_ratio", "norm_pix", "norm_eps", "mean", "std")
    grid, _ = options.patch_grid(cfg)
    return {"geometry": geometry, "grid": grid, **{key: cfg[key] for key in keys}}


def _forward_flops(model: Autoencoder, num_visible: int) -> int:
    """Matmul FLOPs of the loss for one image; the projection runs on visible patches only."""
    encoder, decoder = model.encoder_size, model.decoder_size
    num_tokens = model.grid[0] * model.grid[1]
    return (
        flops.linear(num_visible, model.patch_dim, encoder.dim)
        + flops.transformer(num_visible + 1, encoder)
        + flops.linear(num_visible + 1, encoder.dim, decoder.dim)
        + flops.transformer(num_tokens + 1, decoder)
        + flops.linear(num_tokens - num_visible, decoder.dim, model.patch_dim)
    )
