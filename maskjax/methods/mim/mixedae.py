"""MixedAE: patches of several images in one sequence; who belongs together must be recognised.

Chen, Liu, Hong, Xu, Li, Yeung, "Mixed Autoencoder for Self-supervised Visual Representation
Learning", CVPR 2023. The official code is not public: the method is built from the paper's text,
and what that leaves open is a default of ours, said at its place.

Every image of a group of G shows its own share of the patches, no two at the same place, and the
shares stand in one sequence of the encoder: MAE's cost in linear layers, G times its attention.
A query attends to its K best keys only; a contrastive loss asks tokens to recognise those of their
image; the decoder gets the tokens of each image apart, as MAE's does.
"""

import dataclasses
from collections.abc import Hashable, Sequence

import jax.numpy as jnp
from einops import rearrange
from jax import Array
from ml_collections import ConfigDict

from maskjax import losses, masking
from maskjax.losses import Term
from maskjax.masking import Draws, TokenSplit, attend, mixing
from maskjax.method import Aux, Batch, Method, Phase, Schedule, Terms, Tree, require
from maskjax.nn import flops, initializers
from maskjax.nn.autoencoder import Autoencoder, forward_flops
from maskjax.nn.vit import layer_ids
from maskjax.pretext import masked_autoencoder
from maskjax.pretext.outputs import features
from maskjax.targets.patch_pixels import PatchPixels

DEFAULTS = {key: value for key, value in masked_autoencoder.DEFAULTS.items() if key != "mask_ratio"}
DEFAULTS |= {
    "group": 4,  # G images in a sequence; each hides 1 - 1 / G of itself
    "keep": 0,  # keys that a patch query keeps; 0 = N / G, as many as its own image has
    "homologous_layers": (),  # layers with homologous attention; () = all (our reading)
    "temperature": 0.25,  # of the contrastive loss (memory of the paper: low confidence)
    "contrastive": 0.1,  # its weight (memory, low confidence)
}


class Mixed(Autoencoder):
    """MAE's autoencoder whose encoder sees G images at once.

    Attributes:
        group: G.
        keep: keys that a query keeps.
        allow_in: layers with homologous attention; None = all.
    """

    group: int = 4
    keep: int = 49

    def setup(self):
        super().setup()
        shape = (self.group, self.encoder_size.dim)
        self.segment_embed = self.param("segment_embed", initializers.token, shape)

    def __call__(
        self, visible: Array, split: TokenSplit, *, taps: Sequence[str] = ()
    ) -> tuple[Array, dict[str, Array]]:
        """Visible patches [B, K, P] -> prediction for the hidden ones [B, N - K, P], and taps.

        Taps: "latent" [B / G, 1 + N, D] is always there; "all" is the prediction at all tokens, in
        the order of `split`.
        """
        mixed = rearrange(visible, "(b g) k p -> b (g k) p", g=self.group)
        ids = rearrange(split.visible_ids, "(b g) k -> b (g k)", g=self.group)
        segment = jnp.repeat(self.segment_embed, visible.shape[1], axis=0)
        latent, _ = self.encoder(mixed, ids, added=segment, allow=self._homologous)
        apart = rearrange(latent[:, 1:], "b (g k) d -> (b g) k d", g=self.group)
        cls = jnp.repeat(latent[:, :1], self.group, axis=0)
        prediction, decoder = self.decoder(jnp.concatenate([cls, apart], 1), split, taps=taps)
        return prediction, {"latent": latent, **decoder}

    def _homologous(self, query: Array, key: Array) -> Array:
        scores = jnp.einsum("bhqd,bhkd->bhqk", query, key, preferred_element_type=jnp.float32)
        return attend.keep_largest(scores, self.keep, num_prefix=1)


@dataclasses.dataclass(frozen=True)
class MixedAE:
    """The functions of the method, over one configuration."""

    model: Mixed
    pixels: PatchPixels
    temperature: float
    weight: float

    @property
    def group(self) -> int:
        """G, images of a group: consecutive rows of the batch."""
        return self.model.group

    def init(self, key: Array, batch: Batch) -> tuple[Tree, Tree]:
        """(params, {})."""
        image = jnp.repeat(batch["image"][:1], self.group, axis=0)
        noise = jnp.arange(self.pixels.num_tokens, dtype=jnp.float32)
        split = self.sample(Draws.replay({"mask": jnp.tile(noise, (self.group, 1))}))
        visible = masking.tokens.gather(self.pixels.patches(image), split.visible_ids)
        return self.model.init(key, self.pixels.standardize(visible), split)["params"], {}

    def loss(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws, step: Array, static: Hashable
    ) -> tuple[Terms, Aux]:
        """MAE's loss on the patches that an image does not show, and the contrastive one."""
        patches, split = self.pixels.patches(batch["image"]), self.sample(draws)
        require(split.num_hidden > 0, "model.group", self.group, "hides nothing to predict")
        visible = self.pixels.standardize(masking.tokens.gather(patches, split.visible_ids))
        target = self.pixels.target(masking.tokens.gather(patches, split.hidden_ids))
        prediction, seen = self.model.apply({"params": params}, visible, split)
        errors = losses.squared_error(prediction, target)
        alike = losses.supervised_contrastive(
            seen["latent"][:, 1:], self._owners(seen["latent"]), self.temperature
        )
        return {
            "reconstruction": Term(errors.sum(), errors.size),
            "contrastive": Term(alike.sum(), alike.size, self.weight),
        }, {}

    def sample(self, draws: Draws) -> TokenSplit:
        """Who shows what: the images of a group partition the places.

        One noise orders the places of a group; image i of G shows the i-th share of that order.
        """
        num_tokens = self.pixels.num_tokens
        noise = draws.uniform("mask", (num_tokens,))[:: self.group]
        order = jnp.argsort(noise, axis=-1)
        share = num_tokens // self.group
        ids = [jnp.roll(order, -image * share, axis=1) for image in range(self.group)]
        return TokenSplit(rearrange(jnp.stack(ids), "g b n -> (b g) n"), (share,))

    def _owners(self, latent: Array) -> Array:
        """int32[B / G, N] of the mixed sequence, which lists image after image."""
        share = self.pixels.num_tokens // self.group
        owner = jnp.repeat(jnp.arange(self.group), share)
        return jnp.broadcast_to(owner, (latent.shape[0], self.pixels.num_tokens))

    def encode(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """Features of single, whole images by the plain encoder: no segments, no top-K."""
        patches = self.pixels.standardize(self.pixels.patches(batch["image"]))
        return features(self.model.apply({"params": params}, patches, method="encode"))

    def reconstruct(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """As MAE's, and what becomes of each image's group.

        "owner" int32[B, N], which image each place of the mixed one comes from, "mixed"
        [B, H, W, C] in 0..1, and "kin" float32[B] (see `_kin`).
        """
        rows = len(batch["image"])
        batch, draws = _whole_groups(batch, draws, self.group)
        patches, split = self.pixels.patches(batch["image"]), self.sample(draws)
        visible = self.pixels.standardize(masking.tokens.gather(patches, split.visible_ids))
        _, seen = self.model.apply({"params": params}, visible, split, taps=("all",))
        prediction = masking.tokens.restore(seen["all"], split)
        found = self.pixels.pictures(batch["image"], prediction, split.hidden())
        shown = rearrange(~found["hidden"], "(b g) n -> b n g", g=self.group)
        owner = jnp.repeat(jnp.argmax(shown, -1), self.group, axis=0)
        mixed = rearrange(patches, "(b g) n p -> b g n p", g=self.group)
        mixed = mixing.mix(self.pixels.standardize(mixed), owner[:: self.group])
        mixed = jnp.repeat(mixed, self.group, axis=0)
        picture = dataclasses.replace(self.pixels, norm_pix=False).picture(mixed, mixed)
        kin = jnp.repeat(self._kin(seen["latent"]), self.group, axis=0)
        found |= {"owner": owner, "mixed": picture, "kin": kin}
        return {name: value[:rows] for name, value in found.items()}

    def _kin(self, latent: Array) -> Array:
        """float32[B / G]: share of the N / G - 1 tokens nearest to a token that are of its image.

        By the cosine, which the contrastive loss reads too.
        """
        tokens = latent[:, 1:].astype(jnp.float32)
        tokens = tokens / jnp.linalg.norm(tokens, axis=-1, keepdims=True)
        cosine = jnp.einsum("bnd,bmd->bnm", tokens, tokens)
        cosine = jnp.where(jnp.eye(cosine.shape[1], dtype=bool), -jnp.inf, cosine)
        others = max(1, self.pixels.num_tokens // self.group - 1)
        nearest = jnp.argsort(-cosine, axis=-1)[..., :others]
        owner = self._owners(latent)[0]
        return (owner[nearest] == owner[:, None]).mean((1, 2))


def _whole_groups(batch: Batch, draws: Draws, group: int) -> tuple[Batch, Draws]:
    """Repeats the last image until the batch is a multiple of the group."""
    missing = -len(batch["image"]) % group
    if not missing:
        return batch, draws

    def pad(x: Array) -> Array:
        return jnp.concatenate([x, jnp.repeat(x[-1:], missing, axis=0)])

    recorded = {name: pad(value) for name, value in draws.recorded.items()}
    positions = None if draws.positions is None else pad(draws.positions)
    padded = dataclasses.replace(draws, recorded=recorded, positions=positions)
    return {"image": pad(batch["image"])}, padded


def build(cfg: ConfigDict, example: Batch, schedule: Schedule) -> Method:
    """MixedAE from `config.model`.

    Raises:
        UserError: for sizes, groups or data that do not fit each other.
    """
    whole = ConfigDict({**cfg, "mask_ratio": 0.0})
    mae = masked_autoencoder.masked_autoencoder(whole, example, lambda grid, num_visible: None)
    num_tokens, depth = mae.pixels.num_tokens, mae.model.encoder_size.depth
    require(cfg.group >= 1, "model.group", cfg.group, "must be at least 1")
    divides = num_tokens % cfg.group == 0
    require(divides, "model.group", cfg.group, f"must divide the {num_tokens} patches")
    keep = cfg.keep or num_tokens // cfg.group
    require(1 <= keep <= num_tokens, "model.keep", cfg.keep, f"must lie in 0..{num_tokens}")
    layers = tuple(cfg.homologous_layers)
    inside = all(0 <= layer < depth for layer in layers)
    require(inside, "model.homologous_layers", layers, f"must lie in 0..{depth - 1}")
    require(cfg.temperature > 0, "model.temperature", cfg.temperature, "must be positive")
    require(cfg.contrastive >= 0, "model.contrastive", cfg.contrastive, "must not be negative")
    model = Mixed(*mae.model.fields()[:-1], layers or None, cfg.group, keep)
    mixed = MixedAE(model, mae.pixels, cfg.temperature, cfg.contrastive)
    return Method(
        mixed.init,
        (Phase(mixed.loss),),
        {"encode": mixed.encode, "reconstruct": mixed.reconstruct},
        layers=layer_ids(depth),
        coupled=True,
        together=cfg.group,
        describe=masked_autoencoder.facts(ConfigDict({**cfg, "mask_ratio": 1 - 1 / cfg.group})),
        step_flops=3 * _forward_flops(model),
    )


def _forward_flops(model: Mixed) -> float:
    """MAE's at ratio 1 - 1 / G, with attention over whole sequences and scores twice (top-K)."""
    num_tokens, size = model.grid[0] * model.grid[1], model.encoder_size
    share = num_tokens // model.group
    mae = forward_flops(model, share) - flops.transformer(share + 1, size)
    scores = 2 * (num_tokens + 1) ** 2 * size.dim * size.depth
    return mae + (flops.transformer(num_tokens + 1, size) + scores) / model.group
