"""Masked autoencoding of pixels (He et al. 2022): the body of MAE and of what changes one part."""

import dataclasses
from collections.abc import Callable, Hashable

import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from maskjax import losses, masking, options
from maskjax.losses import Term
from maskjax.masking import Draws, TokenSplit
from maskjax.method import Aux, Batch, Method, Phase, Terms, Tree, require
from maskjax.nn.autoencoder import Autoencoder, forward_flops
from maskjax.nn.geometry import SINCOS
from maskjax.nn.vit import Size, layer_ids
from maskjax.pretext.outputs import features, raster
from maskjax.targets.patch_pixels import PatchPixels

# ViT-B/16 of the paper.
DEFAULTS = {
    **options.IMAGE,
    "encoder": dataclasses.asdict(Size(768, 12, 12)),
    "decoder": dataclasses.asdict(Size(512, 8, 16)),
    "mask_ratio": 0.75,
    "norm_pix": True,
    "position": "sincos",  # or sincos_rows: fixed tables with the row first, as mmpretrain has them
    "norm_eps": 1e-6,  # of every LayerNorm; Hugging Face's ViTMAE defaults to 1e-12
    **options.COMPUTE,
}

# (draws, extra, static) -> which patches each image shows.
Sampler = Callable[[Draws, Tree, Hashable], TokenSplit]


@dataclasses.dataclass(frozen=True)
class MaskedAutoencoder:
    """The functions of the method, over one configuration.

    Attributes:
        model: encoder and decoder.
        pixels: patches, inputs and targets.
        sample: which patches each image shows, ids int[B, N]; `static` is None in predictions.
        num_visible: K, the number of patches it shows.
    """

    model: Autoencoder
    pixels: PatchPixels
    sample: Sampler
    num_visible: int

    def init(self, key: Array, batch: Batch) -> tuple[Tree, Tree]:
        """(params, {})."""
        ids = jnp.arange(self.pixels.num_tokens, dtype=jnp.int32)[None]
        split = TokenSplit(ids, (self.num_visible,))
        visible = self.pixels.patches(batch["image"][:1])[:, : self.num_visible]
        return self.model.init(key, self.pixels.standardize(visible), split)["params"], {}

    def loss(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws, step: Array, static: Hashable
    ) -> tuple[Terms, Aux]:
        """Mean squared error over the hidden patches, in shuffled order: no scatter, one sort.

        Raw patches are gathered before the projection, so that only a quarter of them is
        projected and no gradient flows through a gather.
        """
        patches = self.pixels.patches(batch["image"])
        split = self.sample(draws, extra, static)
        require(split.num_hidden > 0, "model.mask_ratio", 0, "hides nothing to predict")
        visible = self.pixels.standardize(masking.tokens.gather(patches, split.visible_ids))
        target = self.pixels.target(masking.tokens.gather(patches, split.hidden_ids))
        prediction, _ = self.model.apply({"params": params}, visible, split)
        errors = losses.squared_error(prediction, target)
        return {"reconstruction": Term(errors.sum(), errors.size)}, {}

    def encode(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """Features of whole images: cls, mean of patch tokens, all tokens (raster, no cls)."""
        patches = self.pixels.standardize(self.pixels.patches(batch["image"]))
        latent = self.model.apply({"params": params}, patches, method="encode")
        return features(latent)

    def reconstruct(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """Prediction and target of every patch in raster order, and both as images in 0..1."""
        seen = self.activations(params, extra, batch, draws)
        return self.pixels.pictures(batch["image"], seen["prediction"], seen["hidden"])

    def activations(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """Everything between input and prediction; decoder tokens and patches in raster order.

        `encoder_*` and `latent` are [B, 1 + K, D] in the order of `visible_ids`; `decoder_*` are
        [B, 1 + N, D]; `*_blocks` have a depth axis after the batch.
        """
        patches = self.pixels.patches(batch["image"])
        split = self.sample(draws, extra, None)
        variables = {"params": params}
        visible = self.pixels.standardize(masking.tokens.gather(patches, split.visible_ids))
        taps = ("input", "block", "all")
        _, seen = self.model.apply(variables, visible, split, taps=taps)
        encoder, decoder = seen["encoder"], seen["decoder"]
        embed = self.model.apply(variables, self.pixels.standardize(patches), method="embed")
        return {
            "patch_embed": embed,
            "encoder_input": encoder["input"],
            "encoder_blocks": jnp.moveaxis(encoder["block"], 0, 1),
            "latent": encoder["latent"],
            "decoder_input": raster(decoder["input"], split),
            "decoder_blocks": jnp.stack([raster(x, split) for x in decoder["block"]], 1),
            "prediction": masking.tokens.restore(decoder["all"], split),
            "visible_ids": split.visible_ids,
            "inverse": split.inverse(),
            "hidden": split.hidden(),
        }


def method(cfg: ConfigDict, example: Batch, sampler: Callable[..., Sampler]) -> Method:
    """A method that is MAE but for its masks.

    Args:
        cfg: `config.model`, with the entries of `DEFAULTS`.
        example: shapes and types of a batch.
        sampler: (grid, num_visible) -> sampler.

    Raises:
        UserError: for sizes, ratios or data that do not fit each other.
    """
    body = masked_autoencoder(cfg, example, sampler)
    predict = {
        "encode": body.encode,
        "reconstruct": body.reconstruct,
        "activations": body.activations,
    }
    return Method(
        body.init,
        (Phase(body.loss),),
        predict,
        layers=layer_ids(body.model.encoder_size.depth),
        describe=facts(cfg),
        step_flops=3 * forward_flops(body.model, body.num_visible),
    )


def masked_autoencoder(
    cfg: ConfigDict, example: Batch, sampler: Callable[..., Sampler]
) -> MaskedAutoencoder:
    """The body itself, for methods that add to it; arguments and errors as in `method`."""
    grid, patch = options.patch_grid(cfg)
    options.check_pixels(cfg, example)
    patch_dim = patch[0] * patch[1] * cfg.channels
    encoder = options.size(cfg.encoder, "model.encoder")
    decoder = options.size(cfg.decoder, "model.decoder")
    # One value has no variance of its own: the target would be NaN.
    normalizable = patch_dim > 1 or not cfg.norm_pix
    require(normalizable, "model.norm_pix", cfg.norm_pix, "needs patches of more than one value")
    require(cfg.norm_eps > 0, "model.norm_eps", cfg.norm_eps, "must be positive")
    known = tuple(SINCOS)
    require(cfg.position in known, "model.position", cfg.position, " or ".join(known))
    shared = (options.compute(cfg), cfg.norm_eps, cfg.position)
    model = Autoencoder(encoder, decoder, grid, patch_dim, *shared)
    num_visible = options.visible_tokens(cfg.mask_ratio, grid[0] * grid[1])
    pixels = PatchPixels(grid, patch, cfg.norm_pix, tuple(cfg.mean), tuple(cfg.std))
    return MaskedAutoencoder(model, pixels, sampler(grid, num_visible), num_visible)


def facts(cfg: ConfigDict) -> dict:
    """What an exported file carries (`Method.describe`), of a method with a decoder or without."""
    patch = options.pair(cfg.patch_size, "model.patch_size")
    encoder = options.size(cfg.encoder, "model.encoder")
    geometry = {
        "image_size": options.pair(cfg.image_size, "model.image_size"),
        "patch_size": patch[0] if patch[0] == patch[1] else patch,
        "channels": cfg.channels,
        "dim": encoder.dim,
        "depth": encoder.depth,
        "heads": encoder.heads,
        "mlp_hidden": encoder.mlp_hidden,
        "position": cfg.position,
        "eps": cfg.norm_eps,
    }
    if "decoder" in cfg:
        decoder = options.size(cfg.decoder, "model.decoder")
        sizes = {key: getattr(decoder, key) for key in ("dim", "depth", "heads", "mlp_hidden")}
        geometry |= {f"decoder_{key}": value for key, value in sizes.items()}
    keys = ("mask_ratio", "norm_pix", "norm_eps", "mean", "std")
    grid, _ = options.patch_grid(cfg)
    return {"geometry": geometry, "grid": grid, **{key: cfg[key] for key in keys if key in cfg}}
