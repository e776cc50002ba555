"""SparK: masked pretraining of convnets, with layers that keep holes and a U-Net that fills them.

Tian, Jiang, Diao, Lin, Wang, Yuan, "Designing BERT for Convolutional Networks: Sparse and
Hierarchical Masked Modeling", ICLR 2023, with the details of the official code. Cells as large as
the network's stride are hidden; every layer of the encoder gives 0 there. Norms count visible
positions only, over the whole batch. Sparse arithmetic is dense here, times the mask.
"""

import dataclasses
import math
from collections.abc import Hashable, Sequence

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jax import Array
from ml_collections import ConfigDict

from maskjax import losses, masking, options
from maskjax.losses import Term
from maskjax.masking import Draws
from maskjax.masking.pyramid import enlarge
from maskjax.method import Aux, Batch, Method, Phase, Schedule, Terms, Tree, require
from maskjax.nn import flops
from maskjax.nn.densify import Densified, LightDecoder
from maskjax.pretext import convnets, running_statistics
from maskjax.pretext.convnets import Convnet
from maskjax.targets.patch_pixels import PatchPixels

# ResNet-50 at 224 px.
DEFAULTS = {
    **options.IMAGE,
    "patch_size": (32, 32),  # of a cell; the network's stride, there is no other choice
    "mask_ratio": 0.6,  # 0.75 at 384 px
    **convnets.DEFAULTS,
    "decoder_width": 768,
}

EPS = 1e-8  # added to the number of hidden patches


class SparseAutoencoder(nn.Module):
    """encoder, densified, decoder.

    Attributes:
        net: of a `Convnet`, with sparse layers.
        stages: names of its maps, from the finest.
        batch_norm: norm of `Densify`.
        width, num_blocks, channels, remat, dtype: of `LightDecoder`.
    """

    net: nn.Module
    stages: Sequence[str]
    batch_norm: bool
    width: int
    num_blocks: int
    channels: int
    remat: bool
    dtype: jnp.dtype

    def setup(self):
        self.encoder = self.net.clone(name="encoder", parent=None)
        self.densified = Densified(self.width, self.batch_norm, self.dtype)
        self.decoder = LightDecoder(
            self.width, self.num_blocks, self.channels, self.remat, self.dtype
        )

    def __call__(
        self, images: Array, valid: Array, *, train: bool, drop_noise: Array | None = None
    ) -> dict[str, list[Array] | Array]:
        """Images float[B, H, W, C], valid bool[B, H, W] -> what is made of the visible part.

        "maps" of the stages from the finest, "dense" maps from the coarsest, "image" [B, H, W, C].
        """
        _, seen = self.encoder(images, valid, train=train, drop_noise=drop_noise)
        maps = [seen[stage] for stage in self.stages]
        dense = self.densified(maps[::-1], train=train)
        image = self.decoder(dense, train=train)
        return {"maps": [x for x, _ in maps], "dense": dense, "image": image}

    def encode(self, images: Array) -> Array:
        """Whole images -> the last map, float32[B, H', W', C]."""
        _, seen = self.encoder(images, None, train=False)
        return seen[self.stages[-1]][0].astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class SparK:
    """The functions of the method, over one configuration.

    Attributes:
        model: encoder and decoder.
        net: facts of the encoder.
        pixels: the cells as patches.
        num_visible: of them.
        drop_path: whether branches are dropped in training.
    """

    model: SparseAutoencoder
    net: Convnet
    pixels: PatchPixels
    num_visible: int
    drop_path: bool

    def init(self, key: Array, batch: Batch) -> tuple[Tree, Tree]:
        """(params, {"batch_stats": running statistics})."""
        images = self._images(batch["image"][:1])
        valid = jnp.ones(images.shape[:3], bool)
        variables = self.model.init(key, images, valid, train=False)
        params = variables["params"]
        params = {**params, "encoder": self.net.start(params["encoder"], key)}
        return params, {"batch_stats": variables["batch_stats"]}

    def loss(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws, step: Array, static: Hashable
    ) -> tuple[Terms, Aux]:
        """Squared error of the hidden patches, whose values are normalised patch by patch."""
        hidden = self.sample(draws)
        noise = draws.uniform("drop_path", (self.net.blocks,)) if self.drop_path else None
        found, state = self.model.apply(
            {"params": params, **extra},
            self._images(batch["image"]),
            self._valid(hidden),
            train=True,
            drop_noise=noise,
            mutable=["batch_stats"],
        )
        errors = self._errors(found["image"], batch["image"])
        # How many are hidden is known: the same in every image.
        number = len(hidden) * (self.pixels.num_tokens - self.num_visible) + EPS
        terms = {"reconstruction": Term(jnp.where(hidden, errors, 0).sum(), number)}
        return terms, running_statistics.as_means(state)

    def after_update(self, params: Tree, extra: Tree, aux: Aux, step: Array) -> Tree:
        """Takes over the running statistics."""
        return running_statistics.taken_over(extra, aux)

    def sample(self, draws: Draws) -> Array:
        """bool[B, N], which cells of each image are hidden: all but those of the least noise."""
        noise = draws.uniform("mask", (self.pixels.num_tokens,))
        return masking.from_scores(noise, num_visible=self.num_visible).hidden()

    def encode(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """Features of whole images: positions of the last map, and their mean (also as "cls")."""
        x = self.model.apply(
            {"params": params, **extra}, self._images(batch["image"]), method="encode"
        )
        tokens = rearrange(x, "b h w c -> b (h w) c")
        return {"cls": tokens.mean(1), "mean": tokens.mean(1), "tokens": tokens}

    def reconstruct(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """Prediction and target of every patch in raster order, and both as images in 0..1."""
        found, hidden = self._run(params, extra, batch, draws)
        prediction = self.pixels.patches(found["image"])
        return self.pixels.pictures(batch["image"], prediction, hidden)

    def activations(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """Of masked images: "map/0" (finest), ..., "dense/0" (coarsest), ..., "image", "hidden".

        Maps are [B, H', W', C]; "loss" [B] is that of each image, by running statistics.
        """
        found, hidden = self._run(params, extra, batch, draws)
        lists = {"map": found["maps"], "dense": found["dense"]}
        errors = self._errors(found["image"], batch["image"])
        return {
            **{f"{name}/{i}": x for name, maps in lists.items() for i, x in enumerate(maps)},
            "image": found["image"],
            "hidden": hidden,
            "loss": jnp.where(hidden, errors, 0).sum(1) / (hidden.sum(1) + EPS),
        }

    def _run(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> tuple[dict, Array]:
        hidden, images = self.sample(draws), self._images(batch["image"])
        variables = {"params": params, **extra}
        return self.model.apply(variables, images, self._valid(hidden), train=False), hidden

    def _images(self, image: Array) -> Array:
        return self.pixels.standardize(image)

    def _valid(self, hidden: Array) -> Array:
        """bool[B, N] of cells -> bool[B, H, W] of pixels; the layers reduce it as their maps."""
        rows, columns = self.pixels.grid
        cells = rearrange(~hidden, "b (h w) -> b h w", h=rows, w=columns)
        return enlarge(cells, self.pixels.patch)

    def _errors(self, prediction: Array, image: Array) -> Array:
        """float32[B, N]: the mean squared error of each patch."""
        target = self.pixels.target(self.pixels.patches(image))
        return losses.squared_error(self.pixels.patches(prediction), target)


def build(cfg: ConfigDict, example: Batch, schedule: Schedule) -> Method:
    """SparK from `config.model`.

    Raises:
        UserError: for sizes, ratios or data that do not fit each other.
    """
    net = convnets.convnet(cfg)
    stride = net.strides[-1]
    grid, patch = options.patch_grid(cfg)
    options.check_pixels(cfg, example)
    what = f"must be the stride {stride} of model.{cfg.backbone}: a cell is what its last map sees"
    require(patch == (stride, stride), "model.patch_size", patch, what)
    num_visible = _visible(cfg.mask_ratio, math.prod(grid))
    num_blocks = int(math.log2(stride))
    what = f"its stride {stride} must be a power of 2, and its first map of stride 2 or more"
    fits = 2**num_blocks == stride and net.strides[0] > 1
    require(fits, f"model.{cfg.backbone}", cfg[cfg.backbone].to_dict(), what)
    width = cfg.decoder_width
    fits = isinstance(width, int) and width > 0 and width % stride == 0
    require(fits, "model.decoder_width", width, f"must be a multiple of the stride {stride}")
    dtype, remat = options.dtype(cfg), cfg.remat == "full"
    sizes = (width, num_blocks, cfg.channels, remat, dtype)
    model = SparseAutoencoder(net.module, net.stages, net.batch_norm, *sizes)
    pixels = PatchPixels(grid, patch, True, tuple(cfg.mean), tuple(cfg.std))
    spark = SparK(model, net, pixels, num_visible, cfg.drop_path > 0)
    geometry = {"geometry": net.geometry} if net.geometry else {}
    facts = {key: cfg[key] for key in ("mask_ratio", "mean", "std")}
    return Method(
        spark.init,
        (Phase(spark.loss),),
        {name: getattr(spark, name) for name in ("encode", "reconstruct", "activations")},
        after_update=spark.after_update,
        groups=(("/token$", "no_decay"),),
        layers=net.layers,
        coupled=True,
        weights=_weights(net.batch_norm),
        describe={**geometry, "grid": grid, "norm_pix": True, **facts},
        step_flops=3 * (net.flops + _decoder_flops(net, grid, width, cfg.channels)),
    )


def _visible(mask_ratio: float, num_cells: int) -> int:
    """The official code's count: to the nearest."""
    fits = isinstance(mask_ratio, int | float) and 0 <= mask_ratio < 1
    require(fits, "model.mask_ratio", mask_ratio, "must be a number in [0, 1)")
    number = round(num_cells * (1 - mask_ratio))
    what = f"must leave 1 or more of the {num_cells} cells visible"
    require(number > 0, "model.mask_ratio", mask_ratio, what)
    return number


def _weights(batch_norm: bool) -> dict[str, str]:
    """`Method.weights`: the encoder has the names of its geometry, the rest others."""
    parts = {"params": "params/encoder", "densified": "params/densified"}
    parts |= {"light_decoder": "params/decoder"}
    parts |= {"light_decoder_stats": "extra/batch_stats/decoder"}
    stats = {"batch_stats": "encoder", "densified_stats": "densified"}
    found = {name: f"extra/batch_stats/{part}" for name, part in stats.items()}
    return parts | (found if batch_norm else {})


def _decoder_flops(net: Convnet, grid: tuple[int, int], width: int, channels: int) -> int:
    """Of the projections and the U-Net, for one image."""
    total, places, c = 0, math.prod(grid), width
    for k in range(int(math.log2(net.strides[-1]))):
        if k < len(net.widths):
            total += flops.conv(places, 9 if k else 1, net.widths[-1 - k], c)
        total += flops.conv(4 * places, 4, c, c)  # of 16 cells 4 see something
        total += flops.conv(4 * places, 9, c, c) + flops.conv(4 * places, 9, c, c // 2)
        places, c = 4 * places, c // 2
    return total + flops.conv(places, 1, c, channels)
