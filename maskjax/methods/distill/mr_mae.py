"""MR-MAE: visible tokens mimic a frozen teacher's, hidden ones are reconstructed as pixels.

Gao, Zhang, Fang, Lin, Li, Li, Yu, "Mimic before Reconstruct: Enhancing Masked Autoencoders with
Feature Mimicking", IJCV 2024. The authors published ConvMAE's code and MR-MCMAE's weights, but not
the code of the mimic loss: its form is from the abstract and memory, and open by config. Teachers
look at whole images; the two losses never touch the same token. The encoder is a ViT, or ConvMAE's
masked convolutions in front of a transformer.
"""

import dataclasses
from collections.abc import Hashable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from maskjax import losses, masking, options
from maskjax.losses import Term
from maskjax.masking import Draws, TokenSplit, guided
from maskjax.method import Aux, Batch, Method, Phase, Schedule, Terms, Tree, require
from maskjax.nn import autoencoder, conv_autoencoder, flops
from maskjax.nn.autoencoder import Autoencoder
from maskjax.nn.conv_autoencoder import ConvAutoencoder, ConvSize, stage_masks
from maskjax.nn.dense import Dense
from maskjax.nn.vit import Compute, layer_ids
from maskjax.pretext import masked_autoencoder
from maskjax.pretext.outputs import features, patch_features
from maskjax.pretext.teacher import Teacher, teacher
from maskjax.targets.features import Norm, normalized
from maskjax.targets.patch_pixels import PatchPixels

DEFAULTS = {
    **masked_autoencoder.DEFAULTS,
    "backbone": "vit",  # `encoder` and `position`, or "conv": ConvMAE's, of the entries `conv`
    "conv": dataclasses.asdict(ConvSize()),
    "teacher": {**options.TEACHER, "name": "clip_b16"},
    "second": {**options.TEACHER, "name": "dino_b16"},  # mimicked too, if it has a file
    "mimic_weight": 1.0,  # memory; 0 = no teacher: MAE or ConvMAE
    "target_norm": "whiten",  # of the targets: or "l2", "none" (memory)
    "visible": "random",  # or "salient": drawn by the teacher's attention (memory)
    "fusion_layers": (),  # blocks whose outputs are mimicked together; () = the latent (memory)
    "fusion": "mean",  # of those, or "learned": weights that start as the mean (memory)
}


class MimicHead(nn.Module):
    """From tokens of the encoder to those of each teacher.

    Attributes:
        widths: (name, width) of each teacher.
        learned: whether the weights of the layers are.
        compute: dtype.
    """

    widths: tuple[tuple[str, int], ...]
    learned: bool
    compute: Compute

    @nn.compact
    def __call__(self, layers: Array) -> dict[str, Array]:
        """Layers [n, B, K, D] that are fused -> {name: float32[B, K, width]}."""
        start = nn.initializers.constant(1 / len(layers))
        if self.learned:
            fused = jnp.einsum("n,nbkd->bkd", self.param("fusion", start, (len(layers),)), layers)
        else:
            fused = layers.astype(jnp.float32).mean(0)
        heads = {name: Dense(w, dtype=self.compute.dtype, name=name) for name, w in self.widths}
        return {name: head(fused).astype(jnp.float32) for name, head in heads.items()}


@dataclasses.dataclass(frozen=True)
class MRMAE:
    """The functions of the method, over one configuration.

    Attributes:
        model: autoencoder.
        head: of the mimicked tokens; None without teachers.
        pixels: patches, inputs and targets.
        teachers: {part of `extra`: teacher}.
        num_visible: K.
        salient: visible patches are drawn by the first teacher's attention.
        layers: numbers of the blocks that are mimicked; () = the latent.
        weight: of the mimic loss.
        norm: of its targets.
    """

    model: Autoencoder | ConvAutoencoder
    head: MimicHead | None
    pixels: PatchPixels
    teachers: Mapping[str, Teacher]
    num_visible: int
    salient: bool
    layers: tuple[int, ...]
    weight: float
    norm: Norm

    @property
    def conv(self) -> bool:
        """Whether the encoder is ConvMAE's, without a class token."""
        return isinstance(self.model, ConvAutoencoder)

    def init(self, key: Array, batch: Batch) -> tuple[Tree, Tree]:
        """({"encoder", "decoder", "mimic"}, {teacher: its parameters, from the file later})."""
        ids = jnp.arange(self.pixels.num_tokens, dtype=jnp.int32)[None]
        split = TokenSplit(ids, (self.num_visible,))
        inputs = self._inputs(batch["image"][:1], split)
        params = dict(self.model.init(key, inputs, split)["params"])
        if self.head:
            example = jnp.zeros((max(1, len(self.layers)), 1, 1, self._width))
            params["mimic"] = self.head.init(jax.random.fold_in(key, 1), example)["params"]
        keys = {name: jax.random.fold_in(key, 2 + i) for i, name in enumerate(self.teachers)}
        return params, {name: one.init(keys[name]) for name, one in self.teachers.items()}

    def loss(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws, step: Array, static: Hashable
    ) -> tuple[Terms, Aux]:
        """Pixels of the hidden patches, features of the visible ones; in shuffled order."""
        targets, saliency = self.taught(extra, batch)
        split = self.sample(draws, saliency)
        require(split.num_hidden > 0, "model.mask_ratio", 0, "hides nothing to predict")
        prediction, seen = self._run(params, batch, split, ())
        patches = masking.tokens.gather(self.pixels.patches(batch["image"]), split.hidden_ids)
        errors = losses.squared_error(prediction, self.pixels.target(patches))
        terms = {"reconstruction": Term(errors.sum(), errors.size)}
        for name, tokens in self.mimic(params, seen).items():
            target = masking.tokens.gather(targets[name], split.visible_ids)
            distance = losses.squared_error(tokens, target)
            label = "mimic" if name == "teacher" else f"mimic_{name}"
            terms[label] = Term(distance.sum(), distance.size, self.weight)
        return terms, {}

    def taught(self, extra: Tree, batch: Batch) -> tuple[dict[str, Array], Array | None]:
        """Each teacher's tokens of whole images, {name: float32[B, N, D]}, and its saliency.

        The saliency float32[B, N] is the first teacher's; None where the masks do not need it.
        """
        tokens, saliency = {}, None
        for name, one in self.teachers.items():
            asked = self.salient and name == "teacher"
            taps = ("attention/-1",) if asked else ()
            out, seen = one(extra[name], one.patches(batch["image"]), taps=taps)
            tokens[name] = normalized(out["tokens"], self.norm)
            saliency = one.saliency(seen) if asked else saliency
        return tokens, saliency

    def sample(self, draws: Draws, saliency: Array | None) -> TokenSplit:
        """Which patches each image shows, uniformly or more likely where the teacher looks."""
        shape = (self.pixels.num_tokens,)
        if saliency is None:
            noise = draws.uniform("mask", shape)
            return masking.random(noise, self.pixels.grid, num_visible=self.num_visible)
        noise = draws.sample("mask", shape, lambda key: jax.random.exponential(key, shape))
        return guided.sampled(noise, saliency, num_visible=self.num_visible)

    def mimic(self, params: Tree, seen: Mapping[str, Mapping[str, Array]]) -> dict[str, Array]:
        """What the encoder's visible patches say of each teacher's, {name: float32[B, K, D]}."""
        if not self.head:
            return {}
        encoder, front = seen["encoder"], 0 if self.conv else 1
        layers = encoder["latent"][None]
        if self.layers:
            layers = jnp.stack([encoder[f"block/{layer}"] for layer in self.layers])
        return self.head.apply({"params": params["mimic"]}, layers[:, :, front:])

    def encode(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """Features of whole images: cls (for "conv" the mean), mean of patches, all tokens."""
        inputs = self._inputs(batch["image"], None)
        latent = self.model.apply({"params": params}, inputs, method="encode")
        return patch_features(latent) if self.conv else features(latent)

    def reconstruct(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """Prediction and target of every patch in raster order, and both as images in 0..1."""
        seen = self.activations(params, extra, batch, draws)
        return self.pixels.pictures(batch["image"], seen["prediction"], seen["hidden"])

    def activations(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """Everything between input and losses.

        "latent" [B, E + K, D] in the order of "visible_ids"; "mimic/teacher" what it says of the
        teacher's tokens "target/teacher", both [B, K, D]; in raster order "prediction" [B, N, P],
        "inverse", "hidden". For "conv" also "hidden1" and "hidden2", of the convolutions' stages.
        """
        targets, saliency = self.taught(extra, batch)
        split = self.sample(draws, saliency)
        _, seen = self._run(params, batch, split, ("all",))
        found = {
            "latent": seen["encoder"]["latent"],
            "prediction": masking.tokens.restore(seen["decoder"]["all"], split),
            "visible_ids": split.visible_ids,
            "inverse": split.inverse(),
            "hidden": split.hidden(),
        }
        found |= {f"mimic/{name}": x for name, x in self.mimic(params, seen).items()}
        gather = lambda x: masking.tokens.gather(x, split.visible_ids)  # noqa: E731
        found |= {f"target/{name}": gather(x) for name, x in targets.items()}
        found |= {} if saliency is None else {"saliency": saliency}
        if self.conv:
            masks = stage_masks(split.visible_ids, self.pixels.grid, self.model.encoder_size)
            found |= {f"hidden{stage}": ~valid for stage, valid in enumerate(masks, 1)}
        return found

    def _run(
        self, params: Tree, batch: Batch, split: TokenSplit, taps: tuple[str, ...]
    ) -> tuple[Array, dict]:
        """Prediction for the hidden patches, taps of both halves; `taps` are the decoder's."""
        mimicked = [f"block/{layer}" for layer in self.layers]

        def forward(model: nn.Module, inputs: Array) -> tuple[Array, dict]:
            latent, encoder = model.encoder(inputs, split.visible_ids, taps=mimicked)
            prediction, decoder = model.decoder(latent, split, taps=taps)
            return prediction, {"encoder": {**encoder, "latent": latent}, "decoder": decoder}

        inputs = self._inputs(batch["image"], split)
        return self.model.apply({"params": params}, inputs, method=forward)

    def _inputs(self, image: Array, split: TokenSplit | None) -> Array:
        """Standardised: visible patches (all without a split), or the image for "conv"."""
        if self.conv:
            return self.pixels.standardize(image)
        patches = self.pixels.patches(image)
        if split is not None:
            patches = masking.tokens.gather(patches, split.visible_ids)
        return self.pixels.standardize(patches)

    @property
    def _width(self) -> int:
        size = self.model.encoder_size
        return size.dims[2] if self.conv else size.dim


def build(cfg: ConfigDict, example: Batch, schedule: Schedule) -> Method:
    """MR-MAE from `config.model`.

    Raises:
        UserError: for sizes, ratios, teachers or data that do not fit each other.
    """
    mae = masked_autoencoder.masked_autoencoder(cfg, example, lambda grid, num_visible: None)
    _check(cfg)
    model = _conv(cfg, mae) if cfg.backbone == "conv" else mae.model
    names = ["teacher", *(["second"] if cfg.second.file else [])] if cfg.mimic_weight else []
    teachers = {name: teacher(cfg, name, mae.pixels.grid) for name in names}
    looks = cfg.visible == "random" or teachers["teacher"].geometry.cls
    require(looks, "model.visible", cfg.visible, "needs a teacher with a class token")
    layers, size = tuple(cfg.fusion_layers), model.encoder_size
    depth, dim = (
        (size.depths[2], size.dims[2]) if cfg.backbone == "conv" else (size.depth, size.dim)
    )
    inside = all(isinstance(layer, int) and 0 <= layer < depth for layer in layers)
    require(inside, "model.fusion_layers", layers, f"must be numbers of blocks, 0..{depth - 1}")
    widths = tuple((name, one.geometry.dim) for name, one in teachers.items())
    head = MimicHead(widths, cfg.fusion == "learned", model.compute) if teachers else None
    own = (cfg.visible == "salient", layers, cfg.mimic_weight, cfg.target_norm)
    body = MRMAE(model, head, mae.pixels, teachers, mae.num_visible, *own)
    family = conv_autoencoder if body.conv else autoencoder
    projections = sum(flops.linear(mae.num_visible, dim, width) for _, width in widths)
    student = family.forward_flops(model, mae.num_visible) + projections
    return Method(
        body.init,
        (Phase(body.loss),),
        {name: getattr(body, name) for name in ("encode", "reconstruct", "activations")},
        load={f"extra/{name}": f"model.{name}" for name in teachers},
        layers=conv_autoencoder.layer_ids(depth) if body.conv else layer_ids(depth),
        describe=_facts(cfg),
        step_flops=3 * student + sum(one.flops() for one in teachers.values()),
    )


def _check(cfg: ConfigDict):
    for key, known in (
        ("backbone", ("vit", "conv")),
        ("visible", ("random", "salient")),
        ("fusion", ("mean", "learned")),
        ("target_norm", ("whiten", "l2", "none")),
    ):
        require(cfg[key] in known, f"model.{key}", cfg[key], " or ".join(known))
    number = isinstance(cfg.mimic_weight, int | float) and cfg.mimic_weight >= 0
    require(number, "model.mimic_weight", cfg.mimic_weight, "must be a number, 0 or more")
    taught = cfg.visible == "random" or cfg.mimic_weight > 0
    require(taught, "model.visible", cfg.visible, "needs a teacher; set model.mimic_weight")


def _conv(cfg: ConfigDict, mae: masked_autoencoder.MaskedAutoencoder) -> ConvAutoencoder:
    size = options.conv_size(cfg.conv, "model.conv")
    patch, stride = mae.pixels.patch, size.strides[2]
    what = f"the three strides {size.patches} of model.conv.patches make cells of {stride} pixels"
    require(patch == (stride, stride), "model.patch_size", patch, what)
    shared = (mae.model.decoder_size, mae.model.grid, mae.model.patch_dim)
    return ConvAutoencoder(size, *shared, mae.model.compute, cfg.norm_eps)


def _facts(cfg: ConfigDict) -> dict:
    facts = masked_autoencoder.facts(cfg)
    if cfg.backbone == "vit":
        return facts
    # No weights format of other libraries takes this network yet.
    return {key: value for key, value in facts.items() if key != "geometry"}
