"""VideoMAE V2: tubes are hidden from the encoder, and the decoder predicts a part of them only.

Wang, Huang, Zhao, Tong, He, Wang, Wang, Qiao, "VideoMAE V2: Scaling Video Masked Autoencoders with
Dual Masking", CVPR 2023, with the details of the official code. A decoder ratio of 0 is VideoMAE
(Tong et al. 2022): all hidden tokens are predicted.
"""

import dataclasses
from collections.abc import Hashable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from maskjax import losses, masking, options
from maskjax.losses import Term
from maskjax.masking import Draws, TokenSplit, video
from maskjax.method import Aux, Batch, Method, Phase, Schedule, Terms, Tree, require
from maskjax.nn.geometry import Geometry
from maskjax.nn.tube_autoencoder import TubeAutoencoder, forward_flops
from maskjax.nn.vit import Size, layer_ids
from maskjax.pretext.outputs import patch_features
from maskjax.targets.tube_pixels import TubePixels

# ViT-B/16 on 16 frames.
DEFAULTS = {
    **options.IMAGE,
    "num_frames": 16,
    "tubelet": 2,  # frames of a token
    "encoder": dataclasses.asdict(Size(768, 12, 12)),
    "decoder": dataclasses.asdict(Size(384, 4, 6)),
    "mask_ratio": 0.9,  # of the places of a time step, the same at all of them
    # Share of all tokens that the decoder leaves out: 0.25, 0.5, 0.75; 0 = it predicts what is
    # hidden, and nothing else (VideoMAE).
    "decoder_mask_ratio": 0.5,
    "norm_pix": True,  # by tube and channel
    "norm_eps": 1e-6,
    **options.COMPUTE,
}
CELL = (2, 2)  # of the running cell


class Masks(NamedTuple):
    """What a clip shows and what is predicted of it.

    Attributes:
        split: visible and hidden tokens.
        predicted_ids: int[B, M].
        weight: float32[B, M], 1 where a predicted token is hidden, else 0.
    """

    split: TokenSplit
    predicted_ids: Array
    weight: Array


@dataclasses.dataclass(frozen=True)
class VideoMAE:
    """The functions of the method, over one configuration.

    Attributes:
        model: encoder and decoder.
        pixels: tubes, inputs and targets.
        num_visible: K, tokens that the encoder sees.
        num_predicted: M, tokens that the decoder predicts; 0 = those that are hidden.
    """

    model: TubeAutoencoder
    pixels: TubePixels
    num_visible: int
    num_predicted: int

    def init(self, key: Array, batch: Batch) -> tuple[Tree, Tree]:
        """(params, {})."""
        tubes = self.pixels.tubes(batch["video"][:1])[:, : self.num_visible]
        ids = jnp.arange(self.num_visible, dtype=jnp.int32)[None]
        visible = self.pixels.standardize(tubes)
        return self.model.init(key, visible, ids, ids[:, :1])["params"], {}

    def loss(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws, step: Array, static: Hashable
    ) -> tuple[Terms, Aux]:
        """Mean squared error over the tokens that are predicted and hidden."""
        tubes, masks = self.pixels.tubes(batch["video"]), self.sample(draws)
        visible_ids = masks.split.visible_ids
        visible = self.pixels.standardize(masking.tokens.gather(tubes, visible_ids))
        target = self.pixels.target(masking.tokens.gather(tubes, masks.predicted_ids))
        variables = {"params": params}
        prediction = self.model.apply(variables, visible, visible_ids, masks.predicted_ids)
        errors = losses.squared_error(prediction, target)
        if not self.num_predicted:  # all of them are hidden
            return {"reconstruction": Term(errors.sum(), errors.size)}, {}
        return {"reconstruction": Term((errors * masks.weight).sum(), masks.weight.sum())}, {}

    def sample(self, draws: Draws) -> Masks:
        """A tube mask and a running cell, drawn apart."""
        grid = self.pixels.grid
        noise = draws.uniform("mask", (grid[1] * grid[2],))
        split = video.tube(noise, grid, num_visible=self.num_visible)
        if not self.num_predicted:
            return Masks(split, split.hidden_ids, jnp.ones(split.hidden_ids.shape, jnp.float32))
        predicted = self._running_cell(draws.uniform("cell", ()), grid)
        hidden = split.hidden().astype(jnp.float32)[..., None]
        return Masks(split, predicted, masking.tokens.gather(hidden, predicted)[..., 0])

    def encode(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """Features of whole clips: mean of the tokens, all tokens (raster)."""
        tubes = self.pixels.standardize(self.pixels.tubes(batch["video"]))
        return patch_features(self.model.apply({"params": params}, tubes, method="encode"))

    def reconstruct(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """Prediction and target of every tube [B, N, P], and both as strips in 0..1: one frame of
        each tube, time steps beside each other, and tokens in the order of a strip's patches.

        All tokens are predicted at once, whatever the decoder leaves out in training.
        """
        tubes, split = self.pixels.tubes(batch["video"]), self.sample(draws).split
        every = jnp.broadcast_to(jnp.arange(tubes.shape[1]), tubes.shape[:2])
        _, prediction = self._predict(params, tubes, split, every)
        target = self.pixels.target(tubes)
        tokens = {"prediction": prediction, "target": target, "hidden": split.hidden()}
        return {
            **{name: self.pixels.to_strip(values) for name, values in tokens.items()},
            "pixels": self.pixels.picture(prediction, tubes),
            "original": self.pixels.picture(target, tubes),
        }

    def activations(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """As in training: "visible" [B, K, D] in the order of `visible_ids`; "prediction" and
        "target" [B, M, P] and "weight" [B, M] in the order of `predicted_ids`; "hidden" [B, N]."""
        tubes, masks = self.pixels.tubes(batch["video"]), self.sample(draws)
        latent, prediction = self._predict(params, tubes, masks.split, masks.predicted_ids)
        return {
            "visible": latent,
            "visible_ids": masks.split.visible_ids,
            "prediction": prediction,
            "target": self.pixels.target(masking.tokens.gather(tubes, masks.predicted_ids)),
            "predicted_ids": masks.predicted_ids,
            "weight": masks.weight,
            "hidden": masks.split.hidden(),
        }

    def _running_cell(self, noise: Array, grid: tuple[int, int, int]) -> Array:
        """int[B, M]: the tokens that the decoder predicts."""

        def one(noise: Array) -> Array:
            return video.running_cell(noise, grid, num_visible=self.num_predicted).visible_ids

        return jax.vmap(one)(noise)

    def _predict(
        self, params: Tree, tubes: Array, split: TokenSplit, predicted_ids: Array
    ) -> tuple[Array, Array]:
        """Latent of the visible tokens, prediction at some places."""
        variables, ids = {"params": params}, split.visible_ids
        visible = self.pixels.standardize(masking.tokens.gather(tubes, ids))
        latent = self.model.apply(variables, visible, ids, method="encode")
        return latent, self.model.apply(variables, latent, ids, predicted_ids, method="decode")


def build(cfg: ConfigDict, example: Batch, schedule: Schedule) -> Method:
    """VideoMAE V2 from `config.model`; batches hold clips, "video".

    Raises:
        UserError: for sizes, ratios or data that do not fit each other.
    """
    options.check_pixels(cfg, example, "video")
    geometry = _geometry(cfg)
    decoder = options.size(cfg.decoder, "model.decoder")
    num_visible, num_predicted = _counts(cfg, geometry)
    model = TubeAutoencoder(geometry, decoder, options.compute(cfg))
    tube = (cfg.tubelet, geometry.patch_size, geometry.patch_size)
    pixels = TubePixels(_grid(geometry), tube, cfg.norm_pix, tuple(cfg.mean), tuple(cfg.std))
    mae = VideoMAE(model, pixels, num_visible, num_predicted)
    names = ("encode", "reconstruct", "activations")
    facts = ("mask_ratio", "decoder_mask_ratio", "norm_pix", "norm_eps", "mean", "std")
    predicted = num_predicted or geometry.num_patches - num_visible
    return Method(
        mae.init,
        (Phase(mae.loss),),
        {name: getattr(mae, name) for name in names},
        layers=layer_ids(geometry.depth),
        describe={
            "geometry": dataclasses.asdict(geometry),
            "grid": pixels.strip_grid,
            **{key: cfg[key] for key in facts},
        },
        step_flops=3 * forward_flops(model, num_visible, predicted),
    )


def _geometry(cfg: ConfigDict) -> Geometry:
    _, patch = options.patch_grid(cfg)
    require(patch[0] == patch[1], "model.patch_size", patch, "must be square")
    size = options.size(cfg.encoder, "model.encoder")
    require(cfg.norm_eps > 0, "model.norm_eps", cfg.norm_eps, "must be positive")
    whole = isinstance(cfg.tubelet, int) and cfg.tubelet > 0
    fits = whole and cfg.num_frames % cfg.tubelet == 0
    what = f"must divide model.num_frames = {cfg.num_frames}"
    require(fits, "model.tubelet", cfg.tubelet, what)
    return Geometry(
        image_size=options.pair(cfg.image_size, "model.image_size"),
        patch_size=patch[0],
        channels=cfg.channels,
        dim=size.dim,
        depth=size.depth,
        heads=size.heads,
        mlp_hidden=size.mlp_hidden,
        frames=cfg.num_frames,
        tubelet=cfg.tubelet,
        position="sinusoid",
        qkv_bias="query_value",
        cls=False,
        eps=cfg.norm_eps,
    )


def _grid(geometry: Geometry) -> tuple[int, int, int]:
    """(time steps, rows, columns) of tubes."""
    return geometry.frames // geometry.tubelet, *geometry.grid


def _counts(cfg: ConfigDict, geometry: Geometry) -> tuple[int, int]:
    """Visible and predicted tokens; 0 predicted ones are those that are hidden."""
    g, ratio = geometry, cfg.mask_ratio
    fits = isinstance(ratio, int | float) and 0 < ratio < 1
    require(fits, "model.mask_ratio", ratio, "must be a number between 0 and 1")
    num_visible = video.tube_visible(_grid(g), ratio)
    some = 0 < num_visible < g.num_patches
    require(some, "model.mask_ratio", ratio, "must hide some places of a time step, not all")
    dropped = 4 * cfg.decoder_mask_ratio
    what = "must be 0, 0.25, 0.5 or 0.75"
    fits = dropped in (0, 1, 2, 3)
    require(fits, "model.decoder_mask_ratio", cfg.decoder_mask_ratio, what)
    if not dropped:
        return num_visible, 0
    even = g.grid[0] % CELL[0] == 0 and g.grid[1] % CELL[1] == 0
    what = f"running cells of {CELL} tokens do not divide the grid {g.grid}"
    require(even, "model.patch_size", cfg.patch_size, what)
    return num_visible, g.num_patches - int(dropped) * (g.num_patches // 4)
