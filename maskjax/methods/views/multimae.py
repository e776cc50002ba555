"""MultiMAE: colours, depth and labels of a picture, encoded from a few tokens and all completed.

Bachmann, Mizrahi, Atanov, Zamir, "MultiMAE: Multi-modal Multi-task Masked Autoencoders", ECCV 2022,
with the details of the official code. A Dirichlet sample shares out the visible tokens among the
modalities; one encoder sees them all, each task has a small decoder. Depth and labels may come from
other networks: they are fields of the data like any other.
"""

import dataclasses
from collections.abc import Hashable, Mapping

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from maskjax import losses, masking, options
from maskjax.masking import Draws, TokenSplit, modalities
from maskjax.method import Aux, Batch, Method, Phase, Schedule, Terms, Tree, require
from maskjax.nn import initializers
from maskjax.nn.multimodal import Modality, MultiModalAutoencoder, forward_flops
from maskjax.nn.vit import Size, layer_ids
from maskjax.pretext.outputs import patch_features
from maskjax.targets.depth import standardize_depth
from maskjax.targets.patch_pixels import PatchPixels

# ViT-B/16 of the paper, 98 of 588 tokens.
DEFAULTS = {
    **options.IMAGE,
    "modalities": ("rgb", "depth", "semseg"),  # in the order of their tokens
    "semseg_classes": 133,  # of semseg
    "semseg_stride": 4,  # pixels of the picture for one of its labels, in both directions
    "class_dim": 64,  # width of the embedding of a class
    "depth_holes": False,  # depth 0 means "not measured" (ours, for depth cameras)
    "depth_eps": 1e-6,  # added to the variance of an image's depth
    "num_visible": 98,  # tokens of all modalities that are encoded
    "alpha": 1.0,  # of the Dirichlet law: small = nearly one modality, large = equal shares
    "subsets": False,  # share out among a random subset of the modalities
    "norm_rgb": True,  # a second decoder of colours predicts pixels normalised by patch
    "num_global": 1,
    "encoder": dataclasses.asdict(Size(768, 12, 12)),
    "decoder": dataclasses.asdict(Size(256, 2, 8)),
    "norm_eps": 1e-6,
    **options.COMPUTE,
}
KNOWN = ("rgb", "depth", "semseg")
QKV = r"(query|key|value)/kernel$"


@dataclasses.dataclass(frozen=True)
class MultiMAE:
    """The functions of the method, over one configuration.

    Attributes:
        model: encoder and decoders.
        colours: patches of rgb.
        normed: the same, with targets normalised by patch.
        stride: pixels of the picture for one label of semseg.
        num_visible: K, over all modalities.
        alpha, subsets: of the law of the masks.
        holes, depth_eps: of `standardize_depth`.
    """

    model: MultiModalAutoencoder
    colours: PatchPixels
    normed: PatchPixels
    stride: int
    num_visible: int
    alpha: float
    subsets: bool
    holes: bool
    depth_eps: float

    def init(self, key: Array, batch: Batch) -> tuple[Tree, Tree]:
        """(params, {})."""
        first = {name: batch[name][:1] for name in self.model.names}
        ids = jnp.arange(sum(self.num_tokens), dtype=jnp.int32)[None]
        split = TokenSplit(ids, (self.num_visible,))
        params = self.model.init(key, self.patches(first), split)["params"]
        # Query, key and value are drawn as matrices of their own.
        for name, part in params.items():
            size = self.model.encoder_size if name == "encoder" else self.model.decoder_size
            spread = initializers.xavier_uniform(size.dim, size.dim)
            params = {**params, name: initializers.redrawn(part, key, spread, QKV)}
        return params, {}

    @property
    def num_tokens(self) -> tuple[int, ...]:
        """Of each modality."""
        return (self.colours.num_tokens,) * len(self.model.names)

    def patches(self, batch: Batch) -> dict[str, Array]:
        """What goes into the network, of the modalities that are there: standardised colours and
        depth float32[B, N, P], labels int32[B, N, P]."""
        found = {}
        if "rgb" in batch:
            found["rgb"] = self.colours.standardize(self.colours.patches(batch["rgb"]))
        if "depth" in batch:
            options = {"eps": self.depth_eps, "holes": self.holes}
            found["depth"] = self.colours.patches(standardize_depth(batch["depth"], **options))
        if "semseg" in batch:
            side = tuple(length // self.stride for length in self.colours.patch)
            labels = batch["semseg"].astype(jnp.int32)[..., None]
            found["semseg"] = masking.patchify(labels, side)
        return {name: found[name] for name in self.model.names if name in found}

    def inputs(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """`patches` as a prediction."""
        return self.patches(batch)

    def loss(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws, step: Array, static: Hashable
    ) -> tuple[Terms, Aux]:
        """Each task over the hidden patches of its modality; an image weighs the same in a task,
        however many of its patches are hidden."""
        patches, split = self.patches(batch), self.sample(draws)
        predictions = self.model.apply({"params": params}, patches, split)
        hidden = self.hidden(split)
        if self.holes and "depth" in hidden:
            hidden["depth"] &= (patches["depth"] != 0).any(-1)
        errors = self.errors(predictions, patches)
        return {
            task: losses.hidden_mean(errors[task], hidden[own]) for task, own in self.model.tasks
        }, {}

    def errors(self, predictions: Mapping[str, Array], patches: Mapping[str, Array]) -> dict:
        """{task: float32[B, N]}: squared (colours), absolute (depth), cross-entropy (labels)."""
        found = {}
        for task, own in self.model.tasks:
            prediction, patch = predictions[task], patches[own]
            if own == "semseg":
                logits = prediction.reshape(*patch.shape, -1)
                found[task] = losses.cross_entropy(logits, patch).mean(-1)
            elif own == "depth":
                known = patch != 0 if self.holes else jnp.ones(patch.shape, bool)
                total = jnp.where(known, jnp.abs(prediction - patch), 0).sum(-1)
                found[task] = total / jnp.maximum(known.sum(-1), 1)
            else:
                target = self.normed.target(patch) if task == "norm_rgb" else patch
                found[task] = losses.squared_error(prediction, target)
        return found

    def sample(self, draws: Draws) -> TokenSplit:
        """Which tokens of all modalities each example shows."""
        names, num = self.model.names, self.num_tokens
        alpha = jnp.full(len(names), self.alpha, jnp.float32)
        share = lambda key: modalities.draw_shares(key, alpha, subsets=self.subsets)  # noqa: E731
        noise = modalities.ModalityNoise(
            draws.sample("shares", (len(names),), share),
            draws.uniform("keep", (sum(num),)),
            draws.uniform("shuffle", (sum(num),)),
        )
        one = lambda noise: modalities.dirichlet(noise, num, num_visible=self.num_visible)  # noqa: E731
        return jax.vmap(one)(noise)

    def hidden(self, split: TokenSplit) -> dict[str, Array]:
        """{modality: bool[B, N]}."""
        parts = modalities.by_modality(split.hidden(), self.num_tokens)
        return dict(zip(self.model.names, parts, strict=True))

    def encode(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """Features from all tokens of the modalities that the batch has: their mean, all of them
        [B, T N, D]; the global token as cls."""
        latent = self.model.apply({"params": params}, self.patches(batch), method="encode")
        count = latent.shape[1] - self.model.num_global
        found = patch_features(latent[:, :count])
        last = {"cls": latent[:, -1].astype(jnp.float32)} if self.model.num_global else {}
        return found | last

    def reconstruct(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """Colours as of MAE: prediction, target, hidden, pixels, original; and the depth as
        "depth_pixels", "depth_original" [B, H, W, 1] in 0..1 (a sigmoid of the standardised)."""
        seen = self.activations(params, extra, batch, draws)
        colours = self.normed if "pred/norm_rgb" in seen else self.colours
        best = seen.get("pred/norm_rgb", seen["pred/rgb"])
        found = colours.pictures(batch["rgb"], best, seen["hidden/rgb"])
        patches, grid = self.patches(batch), self.colours.grid
        if "depth" in patches:
            for kind, values in (("pixels", seen["pred/depth"]), ("original", patches["depth"])):
                picture = masking.unpatchify(values, grid, self.colours.patch)
                found[f"depth_{kind}"] = jax.nn.sigmoid(picture)
        return found

    def activations(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """As in training: "inputs" [B, K, D], "latent" [B, K + G, D] in the order of "visible_ids",
        "pred/TASK" [B, N, P], "hidden/NAME" [B, N], "inverse" [B, T N]."""
        patches, split, variables = self.patches(batch), self.sample(draws), {"params": params}
        latent = self.model.apply(variables, patches, split, method="encode")
        predictions = self.model.apply(variables, latent, split, method="decode")
        return {
            "inputs": self.model.apply(variables, patches, split, method="visible"),
            "latent": latent,
            "visible_ids": split.visible_ids,
            "inverse": split.inverse(),
            **{f"pred/{task}": values for task, values in predictions.items()},
            **{f"hidden/{name}": values for name, values in self.hidden(split).items()},
        }


def build(cfg: ConfigDict, example: Batch, schedule: Schedule) -> Method:
    """MultiMAE from `config.model`; batches hold its modalities.

    Raises:
        UserError: for sizes, counts or data that do not fit each other.
    """
    grid, patch = options.patch_grid(cfg)
    names = tuple(cfg.modalities)
    known = len(set(names)) == len(names) > 0 and set(names) <= set(KNOWN)
    require(known, "model.modalities", names, f"must be some of {', '.join(KNOWN)}")
    require("rgb" in names, "model.modalities", names, "must have rgb")
    options.require_fields(example, *names)
    options.check_pixels(cfg, {**example, "image": example["rgb"]})
    encoder = options.size(cfg.encoder, "model.encoder")
    decoder = options.size(cfg.decoder, "model.decoder")
    total = grid[0] * grid[1] * len(names)
    fits = isinstance(cfg.num_visible, int) and 0 < cfg.num_visible < total
    require(fits, "model.num_visible", cfg.num_visible, f"must be 1 .. {total - 1}")
    require(cfg.alpha > 0, "model.alpha", cfg.alpha, "must be positive")
    require(cfg.norm_eps > 0, "model.norm_eps", cfg.norm_eps, "must be positive")
    whole = isinstance(cfg.num_global, int) and cfg.num_global >= 0
    require(whole, "model.num_global", cfg.num_global, "must be 0 or more")
    tasks = tuple((name, name) for name in names) + ((("norm_rgb", "rgb"),) * bool(cfg.norm_rgb))
    sizes = (encoder, decoder, cfg.num_global, options.compute(cfg), cfg.norm_eps)
    model = MultiModalAutoencoder(_modalities(cfg, patch, example), tasks, grid, *sizes)
    colours = PatchPixels(grid, patch, False, tuple(cfg.mean), tuple(cfg.std))
    normed = dataclasses.replace(colours, norm_pix=True)
    require(cfg.depth_eps > 0, "model.depth_eps", cfg.depth_eps, "must be positive")
    law = (cfg.num_visible, cfg.alpha, cfg.subsets, cfg.depth_holes, cfg.depth_eps)
    method = MultiMAE(model, colours, normed, cfg.semseg_stride, *law)
    facts = {key: cfg[key] for key in ("num_visible", "alpha", "mean", "std")}
    predictions = ("encode", "reconstruct", "activations", "inputs")
    return Method(
        method.init,
        (Phase(method.loss),),
        {name: getattr(method, name) for name in predictions},
        layers=layer_ids(encoder.depth),
        describe={"grid": grid, "norm_pix": bool(cfg.norm_rgb), "modalities": names, **facts},
        step_flops=3 * forward_flops(model, cfg.num_visible),
    )


def _modalities(cfg: ConfigDict, patch: tuple[int, int], example: Batch) -> tuple[Modality, ...]:
    """What a token of each holds, checked against the data."""
    area, size = patch[0] * patch[1], options.pair(cfg.image_size, "model.image_size")
    stride = cfg.semseg_stride
    shapes = {"depth": (*size, 1)}
    found = {"rgb": Modality("rgb", area * cfg.channels), "depth": Modality("depth", area)}
    if "semseg" in cfg.modalities:
        fits = isinstance(stride, int) and stride > 0 and not any(side % stride for side in patch)
        what = f"must divide model.patch_size = {patch}"
        require(fits, "model.semseg_stride", stride, what)
        for key in ("semseg_classes", "class_dim"):
            positive = isinstance(cfg[key], int) and cfg[key] > 0
            require(positive, f"model.{key}", cfg[key], "must be a positive int")
        pixels = area // stride**2
        found["semseg"] = Modality("semseg", pixels, cfg.semseg_classes, cfg.class_dim)
        shapes["semseg"] = tuple(side // stride for side in size)
    for name, shape in shapes.items():
        there = tuple(example[name].shape[1:]) if name in cfg.modalities else shape
        what = f"the data has {name} of shape {there}; see config.data.modalities (semseg/{stride})"
        require(there == shape, "model.image_size, model.semseg_stride", shape, what)
    return tuple(found[name] for name in cfg.modalities)
