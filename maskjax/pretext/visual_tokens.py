"""Ids of visual tokens as targets (BEiT, CAE): by a frozen discrete VAE, or held by the data."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from maskjax import options
from maskjax.method import Batch, Tree, require
from maskjax.nn.dalle import (
    DalleDecoder,
    DalleEncoder,
    DalleSize,
    encoder_flops,
    map_pixels,
    unmap_pixels,
)
from maskjax.targets.pixels import unstandardize

# A group `tokenizer` of `config.model`, for DEFAULTS; its sizes are those of DALL-E's.
TOKENIZER = {
    "file": "",  # weights, or a run of `generate.dvae`; "random" = untrained, for tests
    "format": "dalle",  # names of the official file
    "image_size": (112, 112),  # what it sees
    "vocab": 8192,
    "width": 256,
    "groups": 4,
    "blocks": 2,
    "decoder": False,  # of a run too, so that predictions can be drawn
    "field": "",  # of the data: its pictures, or ids; "" = the image, resized on the device
}


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """Images to ids, for one configuration.

    Attributes:
        encoder, decoder: None where the data holds ids, or nothing is drawn.
        image_size: (height, width) of what it sees.
        channels: of that.
        field: see `TOKENIZER`.
        mean, std: per channel, for pixel values in 0..1, to undo where images are standardised.
    """

    encoder: DalleEncoder | None
    decoder: DalleDecoder | None
    image_size: tuple[int, int]
    channels: int
    field: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def init(self, key: Array) -> Tree:
        """{"encoder": parameters, "decoder": ...}, as far as there are such."""
        if self.encoder is None:
            return {}
        example = jnp.zeros((1, *self.image_size, self.channels))
        params = {"encoder": self.encoder.init(key, example)["params"]}
        if self.decoder is not None:
            tokens = jnp.zeros((1, *self.grid, self.encoder.size.vocab))
            decoder = self.decoder.init(jax.random.fold_in(key, 1), tokens)
            params["decoder"] = decoder["params"]
        return params

    def ids(self, params: Tree, batch: Batch) -> Array:
        """int32[B, N] in raster order; no gradient flows."""
        if self.encoder is None:
            return batch[self.field].reshape(len(batch["image"]), -1).astype(jnp.int32)
        image = self.picture(batch[self.field or "image"])
        variables = {"params": jax.lax.stop_gradient(params["encoder"])}
        logits, _ = self.encoder.apply(variables, map_pixels(image))
        return logits.argmax(-1).reshape(len(image), -1).astype(jnp.int32)

    def decode(self, params: Tree, ids: Array) -> Array:
        """Ids int[B, N] -> the most likely images float32[B, h, w, C] in 0..1."""
        size = self.encoder.size
        tokens = jax.nn.one_hot(ids.reshape(-1, *self.grid), size.vocab)
        location, _ = self.decoder.apply({"params": params["decoder"]}, tokens)
        return unmap_pixels(jax.nn.sigmoid(location))

    def picture(self, image: Array) -> Array:
        """Images [B, H, W, C] as the tokenizer sees them: float32[B, h, w, C] in 0..1.

        CAE's code resizes the crop of the file itself, with the same filter (Lanczos); here the
        crop that the encoder sees is resized, so an image is decoded and sent once.
        """
        if jnp.issubdtype(image.dtype, jnp.floating):
            image = unstandardize(image, self.mean, self.std)
        else:
            image = image.astype(jnp.float32) / 255
        if image.shape[1:3] == self.image_size:
            return image
        shape = (image.shape[0], *self.image_size, image.shape[3])
        return jnp.clip(jax.image.resize(image, shape, "lanczos3"), 0, 1)

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of its tokens."""
        height, width = self.image_size
        return height // self.encoder.size.stride, width // self.encoder.size.stride

    @property
    def flops(self) -> int:
        """For one image."""
        return encoder_flops(self.encoder.size, self.image_size) if self.encoder else 0


def tokenizer(cfg: ConfigDict, example: Batch, grid: tuple[int, int], dtype) -> Tokenizer:
    """The tokenizer of `config.model`, whose group `tokenizer` has the entries of `TOKENIZER`.

    Args:
        cfg: `config.model`; channels, mean and std are read too.
        example: shapes and types of a batch.
        grid: (rows, columns) of the patches; a token for each.
        dtype: of its layers but the last, which is float32.

    Raises:
        UserError: naming the entry that does not fit.
    """
    group, stats = cfg.tokenizer, (tuple(cfg.mean), tuple(cfg.std))
    size = dalle_size(group, "model.tokenizer", cfg.channels)
    image_size = options.pair(group.image_size, "model.tokenizer.image_size")
    field = group.field
    if field:
        options.require_fields(example, field)
    if field and example[field].ndim < 4:
        _check_ids(example[field], field, grid)
        return Tokenizer(None, None, image_size, cfg.channels, field, *stats)
    seen = tuple(side // size.stride for side in image_size)
    fits = seen == grid and all(side % size.stride == 0 for side in image_size)
    what = (
        f"gives {seen[0]} x {seen[1]} tokens of {size.stride} pixels"
        f" (2 ** (groups - 1)), but there are {grid[0]} x {grid[1]} patches"
    )
    require(fits, "model.tokenizer.image_size", image_size, what)
    if field:
        found, wanted = example[field].shape[1:], (*image_size, cfg.channels)
        what = f"has pictures of {tuple(found)} in the data; the tokenizer sees {wanted}"
        require(tuple(found) == wanted, "model.tokenizer.field", field, what)
    encoder, decoder = DalleEncoder(size, dtype), DalleDecoder(size, dtype)
    decoder = decoder if group.decoder else None
    return Tokenizer(encoder, decoder, image_size, cfg.channels, field, *stats)


def dalle_size(cfg: ConfigDict, path: str, channels: int) -> DalleSize:
    """Reads vocab, width, groups and blocks of the group at `config.<path>`.

    Raises:
        UserError: if one is no positive int, or the width is not a multiple of 4.
    """
    for key in ("vocab", "width", "groups", "blocks"):
        fits = isinstance(cfg[key], int) and cfg[key] > 0
        require(fits, f"{path}.{key}", cfg[key], "must be a positive int")
    require(cfg.width % 4 == 0, f"{path}.width", cfg.width, "must be a multiple of 4")
    return DalleSize(cfg.vocab, cfg.width, cfg.groups, cfg.blocks, channels)


def _check_ids(ids: jax.ShapeDtypeStruct, field: str, grid: tuple[int, int]):
    integers = jnp.issubdtype(ids.dtype, jnp.integer)
    fits = integers and ids.shape[1:] in (grid, (grid[0] * grid[1],))
    what = f"has {ids.dtype}{list(ids.shape[1:])} in the data; ids are integers of a grid {grid}"
    require(fits, "model.tokenizer.field", field, what)
    chex.assert_rank(ids, {2, 3})
