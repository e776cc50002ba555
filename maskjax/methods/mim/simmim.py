"""SimMIM: mask tokens in the encoder, one linear layer out, L1 on the hidden pixels.

Xie, Zhang, Cao, Lin, Bao, Yao, Dai, Hu, "SimMIM: A Simple Framework for Masked Image Modeling",
CVPR 2022, with the details of the official code. The encoder, a ViT of BEiT's kind or a Swin, sees
all tokens of an image, the mask token in the place of the hidden ones; cells of 32 pixels are
hidden, whatever the patch size.
"""

import dataclasses
import math
from collections.abc import Hashable

import einops
import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from maskjax import losses, masking, options
from maskjax.losses import Term
from maskjax.masking import Draws, cells
from maskjax.method import Aux, Batch, Method, Phase, Schedule, Terms, Tree, require
from maskjax.nn import flops, initializers
from maskjax.nn.dense import Dense
from maskjax.nn.sharding import constrain_batch
from maskjax.pretext import backbones, token_optimization
from maskjax.pretext.backbones import Backbone
from maskjax.pretext.outputs import features, patch_features
from maskjax.pretext.token_optimization import TokenOptimization
from maskjax.targets.patch_pixels import PatchPixels

# ViT-B/16 of the paper.
DEFAULTS = {
    **options.IMAGE,
    **backbones.DEFAULTS,
    "mask_cell": 32,  # side of what is hidden or visible as a whole, in pixels
    "mask_ratio": 0.6,  # of the cells, rounded up
    "mto": dict(token_optimization.DEFAULTS),  # a reconstruction; for the ViT
    **options.COMPUTE,
}

PIXEL_EPS = 1e-5  # added to the number of hidden pixels


class Autoencoder(nn.Module):
    """The encoder over all tokens, and a linear layer to the pixels that each of them stands for.

    Attributes:
        encoder: of a `Backbone`.
        first: how many tokens stand in front of those of the image.
        patch_dim: P', the number of values to predict for each token.
        width: F, of the tokens.
        dtype: of the matmul operands.
    """

    encoder: nn.Module
    first: int
    patch_dim: int
    width: int
    dtype: jnp.dtype

    def setup(self):
        # Weights and biases start as those of a PyTorch convolution.
        spread = initializers.symmetric_uniform(1 / math.sqrt(self.width))
        options = {"kernel_init": spread, "bias_init": spread}
        self.decoder = Dense(self.patch_dim, dtype=self.dtype, **options)

    def __call__(
        self, patches: Array, hidden: Array | None, **encoder
    ) -> tuple[Array, Array, dict[str, Array]]:
        """Patches [B, N, P], hidden bool[B, N] -> prediction float32[B, M, P'], tokens, taps."""
        tokens, seen = self.encode(patches, hidden, **encoder)
        prediction = constrain_batch(self.decoder(tokens[:, self.first :]))
        return prediction.astype(jnp.float32), tokens, seen

    def encode(self, patches: Array, hidden: Array | None = None, **encoder) -> tuple[Array, dict]:
        """Tokens float32[B, first + M, F] and taps; nothing is hidden where `hidden` is None."""
        return self.encoder(patches, hidden=hidden, **encoder)

    def embed(self, patches: Array) -> Array:
        """All patches [B, N, P] -> tokens [B, N, D] before the mask token comes in."""
        return self.encoder.embed(patches)


@dataclasses.dataclass(frozen=True)
class SimMIM:
    """The functions of the method, over one configuration.

    Attributes:
        model: encoder and head.
        backbone: facts of the encoder.
        inputs, outputs: patches that go in, and those that tokens of the encoder stand for.
        cell: side of a cell in patches.
        num_visible: patches that are not hidden.
        drop_path: whether branches are dropped in training.
        mto: masked token optimisation, or None.
    """

    model: Autoencoder
    backbone: Backbone
    inputs: PatchPixels
    outputs: PatchPixels
    cell: float
    num_visible: int
    drop_path: bool
    mto: TokenOptimization | None = None

    def init(self, key: Array, batch: Batch) -> tuple[Tree, Tree]:
        """(params, {})."""
        patches = self._patches(batch["image"][:1])
        hidden = jnp.zeros(patches.shape[:2], bool)
        params = self.model.init(key, patches, hidden)["params"]
        return {**params, "encoder": self.backbone.start(params["encoder"], key)}, {}

    def loss(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws, step: Array, static: Hashable
    ) -> tuple[Terms, Aux]:
        """Sum of absolute errors over hidden pixels / (their number + 1e-5) / channels.

        All patches go through the network, in raster order: the mask is a weight, nothing is
        gathered or scattered.
        """
        image, hidden = batch["image"], self.sample(draws)
        encoder = {}
        if self.drop_path:
            encoder["drop_noise"] = draws.uniform("drop_path", (self.backbone.blocks, 2))
        if self.mto:
            kinds = self._kinds(hidden)
            encoder |= {"bias": self.mto.bias(*kinds), "probes": self.mto.probes(*kinds)}
        prediction, _, seen = self.model.apply(
            {"params": params}, self._patches(image), hidden, **encoder
        )
        target = self.outputs.target(self.outputs.patches(image))
        errors = losses.hidden_error(prediction, target, self._hidden_values(hidden))
        # How many are hidden is known: the same in every image.
        patch, (num, channels) = self.inputs.patch, (len(image), image.shape[-1])
        pixels = num * (self.inputs.num_tokens - self.num_visible) * math.prod(patch)
        terms = {"reconstruction": Term(errors.sum(), (pixels + PIXEL_EPS) * channels)}
        if self.mto:
            terms |= self.mto.terms(seen, *kinds, step)
        return terms, {}

    def sample(self, draws: Draws) -> Array:
        """bool[B, N], which patches of each image are hidden."""
        grid = self.inputs.grid
        _, num_cells = cells.cell_of_tokens(grid, self.cell)
        noise = draws.uniform("mask", (num_cells,))
        options = {"num_visible": self.num_visible, "cell": self.cell}
        return constrain_batch(cells.coarse_hidden(noise, grid, **options))

    def encode(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """Features of whole images: cls, mean of tokens, all tokens (raster, no cls).

        A Swin has no class token: the mean stands in its place.
        """
        patches = self._patches(batch["image"])
        tokens, _ = self.model.apply({"params": params}, patches, method="encode")
        return features(tokens) if self.backbone.first else patch_features(tokens)

    def reconstruct(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """Prediction and target of every patch in raster order, and both as images in 0..1."""
        image, hidden = batch["image"], self.sample(draws)
        prediction, _, _ = self.model.apply({"params": params}, self._patches(image), hidden)
        patches = self.inputs.patches(self._as_image(prediction))
        return self.inputs.pictures(image, patches, hidden)

    def activations(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """Everything between input and prediction of masked images, in raster order.

        "hidden" [B, N], "patch_embed" [B, N, D], "latent" [B, M, F], "prediction" [B, H, W, C] in
        units of the standardised pixels; for the ViT "block" [B, depth, 1 + N, D], for a Swin
        "s/block" [B, depth, N, D] and "s/merge" of each stage s.
        """
        patches, hidden = self._patches(batch["image"]), self.sample(draws)
        variables = {"params": params}
        taps = self.backbone.taps
        prediction, tokens, seen = self.model.apply(variables, patches, hidden, taps=taps)
        in_front = lambda name, x: x if name.endswith("merge") else jnp.moveaxis(x, 0, 1)  # noqa: E731
        return {
            **{name: in_front(name, value) for name, value in seen.items()},
            "patch_embed": self.model.apply(variables, patches, method="embed"),
            "latent": tokens[:, self.backbone.first :],
            "prediction": self._as_image(prediction),
            "hidden": hidden,
        }

    def _kinds(self, hidden: Array) -> tuple[Array, Array]:
        """bool[B, first + N] each: visible tokens and mask tokens; those in front are neither."""
        front = jnp.zeros((len(hidden), self.backbone.first), bool)
        return tuple(jnp.concatenate([front, kind], axis=1) for kind in (~hidden, hidden))

    def _patches(self, image: Array) -> Array:
        return self.inputs.standardize(self.inputs.patches(image))

    def _as_image(self, prediction: Array) -> Array:
        """[B, M, P'] -> [B, H, W, C]: the pixel shuffle of the official code."""
        return masking.unpatchify(prediction, self.outputs.grid, self.outputs.patch)

    def _hidden_values(self, hidden: Array) -> Array:
        """bool[B, N] of patches -> bool[B, M, P'] of the values that are predicted, or less."""
        if self.inputs.patch == self.outputs.patch:
            return hidden[..., None]
        pixels = masking.patches.to_pixels(hidden, self.inputs.grid, self.inputs.patch)
        of_output = masking.patchify(pixels[..., None], self.outputs.patch)
        return einops.repeat(of_output, "b m p -> b m (p c)", c=len(self.inputs.mean))


def build(cfg: ConfigDict, example: Batch, schedule: Schedule) -> Method:
    """SimMIM from `config.model`.

    Raises:
        UserError: for sizes, ratios or data that do not fit each other.
    """
    grid, patch = options.patch_grid(cfg)
    options.check_pixels(cfg, example)
    require(patch[0] == patch[1], "model.patch_size", patch, "must be square")
    cell, num_visible = _cells(cfg, grid, patch[0])
    backbone = backbones.backbone(cfg, grid)
    reduced = backbone.reduction
    pixels = {"norm_pix": False, "mean": tuple(cfg.mean), "std": tuple(cfg.std)}
    inputs = PatchPixels(grid, patch, **pixels)
    outputs = PatchPixels(
        (grid[0] // reduced, grid[1] // reduced), (patch[0] * reduced,) * 2, **pixels
    )
    dim = math.prod(outputs.patch) * cfg.channels
    dtype = options.compute(cfg).dtype
    model = Autoencoder(backbone.encoder, backbone.first, dim, backbone.width, dtype)
    drops = cfg.drop_path > 0
    depth, vit = backbone.blocks, bool(backbone.first)
    require(vit or not cfg.mto.on, "model.mto.on", cfg.mto.on, "needs model.backbone = vit")
    mto = token_optimization.token_optimization(cfg.mto, depth, schedule.total_steps)
    simmim = SimMIM(model, backbone, inputs, outputs, cell, num_visible, drops, mto)
    facts = {key: cfg[key] for key in ("mask_ratio", "mask_cell", "norm_eps", "mean", "std")}
    return Method(
        simmim.init,
        (Phase(simmim.loss),),
        {name: getattr(simmim, name) for name in ("encode", "reconstruct", "activations")},
        groups=backbone.groups,
        layers=backbone.layers,
        describe={"geometry": backbone.geometry, "grid": grid, "norm_pix": False, **facts},
        step_flops=3 * (backbone.flops + flops.linear(outputs.num_tokens, backbone.width, dim)),
    )


def _cells(cfg: ConfigDict, grid: tuple[int, int], patch: int) -> tuple[float, int]:
    """Side of a mask cell in patches, and how many patches stay visible."""
    number = isinstance(cfg.mask_ratio, int | float) and 0 <= cfg.mask_ratio <= 1
    require(number, "model.mask_ratio", cfg.mask_ratio, "must be a number in [0, 1]")
    positive = isinstance(cfg.mask_cell, int) and cfg.mask_cell > 0
    require(positive, "model.mask_cell", cfg.mask_cell, "must be a positive int")
    cell = cfg.mask_cell / patch
    try:
        return cell, cells.coarse_visible(grid, cell, cfg.mask_ratio)
    except ValueError as error:
        what = f"pixels are {cell:g} patches of {patch}: {error}"
        require(False, "model.mask_cell", cfg.mask_cell, what)
        raise
