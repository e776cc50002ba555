"""dVAE: the discrete variational autoencoder of DALL-E, a tokenizer of images.

Ramesh, Pavlov, Goh, Gray, Voss, Radford, Chen, Sutskever, "Zero-Shot Text-to-Image Generation",
ICML 2021, section 2.1 and appendix A; the networks are those of the released code, which holds no
training loop. The encoder gives each cell of a grid a distribution over a vocabulary; training
decodes a relaxed sample of it (Gumbel-softmax, Jang et al. and Maddison et al. 2017) whose
temperature falls. A run is the tokenizer of `mim.cae`: `config.model.tokenizer.file`.
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
from maskjax.nn.dalle import DalleDecoder, DalleEncoder, decoder_flops, encoder_flops, map_pixels
from maskjax.pretext.visual_tokens import Tokenizer, dalle_size
from maskjax.targets.patch_pixels import PatchPixels

# The sizes of DALL-E. mean and std are ImageNet's; the model itself sees pixels in 0..1.
DEFAULTS = {
    "image_size": (256, 256),
    "channels": 3,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "vocab": 8192,
    "width": 256,
    "groups": 4,
    "blocks": 2,
    "temperature": (1.0, 0.0625),  # of the relaxation, from the first step to `temperature_steps`
    "temperature_steps": 0,  # 0 = the whole run
    "kl_weight": 6.6,  # after `kl_steps`; before, it rises from 0
    "kl_steps": 5000,
    "marginal_weight": 0.0,  # of the divergence of the batch's mean alone: ours, for short runs
    "dtype": "float32",
}


@dataclasses.dataclass(frozen=True)
class DVAE:
    """The functions of the method, over one configuration."""

    tokenizer: Tokenizer
    pixels: PatchPixels
    temperature: tuple[float, float]
    temperature_steps: int
    kl_weight: float
    kl_steps: int
    marginal_weight: float

    def init(self, key: Array, batch: Batch) -> tuple[Tree, Tree]:
        """({"encoder": ..., "decoder": ...}, {})."""
        return self.tokenizer.init(key), {}

    def loss(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws, step: Array, static: Hashable
    ) -> tuple[Terms, Aux]:
        """-log likelihood of a pixel value + `kl_weight` times the divergence, per pixel value too.

        With a weight of 1 and temperature 0 it is the evidence lower bound, divided by the number
        of pixel values. The divergence of each cell's distribution from the uniform one, averaged,
        is what the tokens tell of the images plus the divergence of the mean distribution (Hoffman
        and Johnson 2016). `marginal_weight` asks for the second alone, so that all tokens are used:
        without it a short run ends with a few. It couples the examples of a batch.
        """
        encoder, decoder = self.tokenizer.encoder, self.tokenizer.decoder
        image = map_pixels(self.tokenizer.picture(batch["image"]))
        logits, _ = encoder.apply({"params": params["encoder"]}, image)
        noise = draws.gumbel("tokens", logits.shape[1:])
        first, last = self.temperature
        temperature = _eased(first, last, step, self.temperature_steps)
        relaxed = jax.nn.softmax((logits + noise) / temperature)
        location, log_scale = decoder.apply({"params": params["decoder"]}, relaxed)
        surprise = losses.logit_laplace(location, log_scale, image)
        divergence = losses.divergence_from_uniform(logits)
        weight = _eased(0.0, self.kl_weight, step, self.kl_steps)
        terms = {
            "likelihood": Term(surprise.sum(), image.size),
            "divergence": Term(divergence.sum(), image.size, weight),
        }
        if self.marginal_weight:
            mean = jax.nn.logsumexp(jax.nn.log_softmax(logits), (0, 1, 2))
            marginal = losses.divergence_from_uniform(mean) * divergence.size
            terms["marginal"] = Term(marginal, image.size, self.marginal_weight)
        count = len(image)
        return terms, {"temperature": Mean(temperature * count, count)}

    def encode(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """What the last layer reads, "tokens" float32[B, N, F]; "mean", and "cls" the same mean."""
        image = map_pixels(self.tokenizer.picture(batch["image"]))
        variables = {"params": params["encoder"]}
        _, seen = self.tokenizer.encoder.apply(variables, image, taps=("features",))
        tokens = seen["features"].astype(jnp.float32)
        tokens = tokens.reshape(len(tokens), -1, tokens.shape[-1])
        return {"tokens": tokens, "mean": tokens.mean(1), "cls": tokens.mean(1)}

    def tokens(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """The most likely tokens, "ids" int32[B, N]."""
        return {"ids": self.tokenizer.ids(params, batch)}

    def reconstruct(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """Images decoded from their most likely tokens, as `PatchPixels.pictures` gives them.

        All patches are hidden: the decoder sees tokens, no pixel.
        """
        image = self.tokenizer.decode(params, self.tokenizer.ids(params, batch))
        hidden = jnp.ones((len(image), self.pixels.num_tokens), bool)
        return self.pixels.pictures(batch["image"], self.pixels.values(image), hidden)


def _eased(start: float, end: float, step: Array, num_steps: int) -> Array:
    """float32: from start to end along half a cosine, over `num_steps` steps, then constant."""
    share = jnp.clip(jnp.float32(step) / max(num_steps, 1), 0, 1)
    return end + (start - end) * 0.5 * (1 + jnp.cos(jnp.pi * share))


def build(cfg: ConfigDict, example: Batch, schedule: Schedule) -> Method:
    """The dVAE from `config.model`.

    Raises:
        UserError: for sizes, weights or data that do not fit each other.
    """
    options.check_pixels(cfg, example)
    size = dalle_size(cfg, "model", cfg.channels)
    image_size = options.pair(cfg.image_size, "model.image_size")
    divides = all(side % size.stride == 0 for side in image_size)
    what = f"its sides must be multiples of {size.stride} = 2 ** (groups - 1)"
    require(divides, "model.image_size", image_size, what)
    temperature = tuple(cfg.temperature)
    fits = len(temperature) == 2 and min(temperature) > 0
    require(fits, "model.temperature", temperature, "must be two positive numbers")
    for key in ("temperature_steps", "kl_weight", "kl_steps", "marginal_weight"):
        require(cfg[key] >= 0, f"model.{key}", cfg[key], "must not be negative")
    dtype, stats = options.dtype(cfg), (tuple(cfg.mean), tuple(cfg.std))
    grid = (image_size[0] // size.stride, image_size[1] // size.stride)
    networks = (DalleEncoder(size, dtype), DalleDecoder(size, dtype))
    dvae = DVAE(
        Tokenizer(*networks, image_size, cfg.channels, "", *stats),
        PatchPixels(grid, (size.stride, size.stride), False, *stats),
        temperature,
        cfg.temperature_steps or schedule.total_steps,
        cfg.kl_weight,
        cfg.kl_steps,
        cfg.marginal_weight,
    )
    return Method(
        dvae.init,
        (Phase(dvae.loss),),
        {name: getattr(dvae, name) for name in ("encode", "tokens", "reconstruct")},
        coupled=cfg.marginal_weight > 0,
        describe={"grid": grid, "mean": stats[0], "std": stats[1]},
        step_flops=3 * (encoder_flops(size, image_size) + decoder_flops(size, image_size)),
    )
