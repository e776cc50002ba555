"""HPM (hard patches mining): the model predicts its own losses and hides where it expects to fail.

Wang, Song, Fan, Wang, Xie, Zhang, "Hard Patches Mining for Masked Image Modeling", CVPR 2023, and
the extension arXiv 2312.13714, with the details of the official code (images, pixel targets). MAE
with a second decoder that predicts each patch's loss. A teacher (the moving average of all weights)
looks at the whole image, and the patches whose loss it predicts to be largest are hidden for sure,
a share of them that grows over the epochs; the rest of the mask is random.
"""

import dataclasses
from collections.abc import Hashable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from maskjax import losses, masking
from maskjax.losses import Term
from maskjax.masking import Draws, TokenSplit, guided
from maskjax.method import Aux, Batch, Mean, Method, Phase, Schedule, Terms, Tree, require
from maskjax.nn import flops
from maskjax.nn.autoencoder import Autoencoder, forward_flops
from maskjax.nn.decoder import PatchHead
from maskjax.nn.vit import layer_ids
from maskjax.pretext import masked_autoencoder
from maskjax.pretext.outputs import features, raster
from maskjax.targets.patch_pixels import PatchPixels

DEFAULTS = {
    **masked_autoencoder.DEFAULTS,
    "norm_pix": False,  # all official scripts
    "loss": "relative",  # of the predicted losses; "absolute" is the paper's ablation
    "hard_share": (0.0, 0.5),  # of the hidden patches: before the first epoch, in the last
    "teacher_decay": (0.999, 0.9999),  # in the first epoch, from epoch `teacher_epochs` on
    "teacher_epochs": 100,
}


class Miner(Autoencoder):
    """MAE's autoencoder and, on the same decoder input, the predictor of losses."""

    def setup(self):
        super().setup()
        # As wide as the pixel decoder, with as many outputs: their mean is the predicted loss.
        self.losspred = PatchHead(self.decoder_size, self.patch_dim, self.compute, self.eps)

    def __call__(
        self, visible: Array, split: TokenSplit, *, taps: Sequence[str] = ()
    ) -> tuple[Array, Array, dict]:
        """Visible patches [B, K, P] -> pixels [B, N - K, P] and losses [B, N - K], both of hidden.

        With the tap "all" the taps hold "losses" [B, N] of all tokens, in the order of `split`.
        """
        prediction, seen = super().__call__(visible, split, taps=("input", *taps))
        skip = 1 if "all" in taps else 1 + split.num_visible
        predicted = self.losspred(seen["decoder"]["input"], skip=skip).mean(-1)
        if "all" in taps:
            seen["losses"] = predicted
            predicted = predicted[:, split.num_visible :]
        return prediction, predicted, seen

    def difficulty(self, patches: Array) -> Array:
        """All patches [B, N, P] in raster order -> predicted losses float32[B, N]."""
        ids = jnp.broadcast_to(jnp.arange(patches.shape[1]), patches.shape[:2])
        split = TokenSplit(ids, (patches.shape[1],))
        _, seen = super().__call__(patches, split, taps=("input",))
        return self.losspred(seen["decoder"]["input"], skip=1).mean(-1)


@dataclasses.dataclass(frozen=True)
class HPM:
    """The functions of the method, over one configuration."""

    model: Miner
    pixels: PatchPixels
    num_visible: int
    loss_kind: str
    hard_counts: tuple[int, ...]
    steps_per_epoch: float
    decay: tuple[float, float]
    decay_epochs: int

    def init(self, key: Array, batch: Batch) -> tuple[Tree, Tree]:
        """(params, {"teacher": params})."""
        ids = jnp.arange(self.pixels.num_tokens, dtype=jnp.int32)[None]
        visible = self.pixels.patches(batch["image"][:1])[:, : self.num_visible]
        split = TokenSplit(ids, (self.num_visible,))
        params = self.model.init(key, self.pixels.standardize(visible), split)["params"]
        return params, {"teacher": jax.tree.map(jnp.copy, params)}

    def loss(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws, step: Array, static: Hashable
    ) -> tuple[Terms, Aux]:
        """MAE's loss, and the one of the predicted losses, whose gradient reaches the encoder too.

        The targets of the second are the first's errors, without gradient.
        """
        patches = self.pixels.patches(batch["image"])
        num_hard = jnp.asarray(self.hard_counts)[self._epoch(step)]
        split = self.sample(extra, patches, draws, num_hard)
        require(split.num_hidden > 1, "model.mask_ratio", 0, "must hide two patches or more")
        visible = self.pixels.standardize(masking.tokens.gather(patches, split.visible_ids))
        target = self.pixels.target(masking.tokens.gather(patches, split.hidden_ids))
        prediction, predicted, _ = self.model.apply({"params": params}, visible, split)
        errors = losses.squared_error(prediction, target)
        terms = {"reconstruction": Term(errors.sum(), errors.size)}
        terms |= self.predictor_terms(predicted, errors)
        return terms, {"hard_patches": Mean(num_hard * jnp.float32(len(patches)), len(patches))}

    def predictor_terms(self, predicted: Array, errors: Array) -> dict[str, Term]:
        """Loss of predicted losses float[B, M] against errors [B, M]."""
        if self.loss_kind == "absolute":
            values = losses.standardized_error(predicted, errors)
            return {"absolute": Term(values.sum(), values.size)}
        sums, pairs = losses.pairwise_order(predicted, errors)
        return {"relative": Term(sums.sum(), pairs.sum())}

    def after_update(self, params: Tree, extra: Tree, aux: Aux, step: Array) -> Tree:
        """The teacher follows the updated student."""
        decay = self.teacher_decay(self._epoch(step))
        follow = lambda old, new: decay * old + (1 - decay) * new  # noqa: E731
        return {**extra, "teacher": jax.tree.map(follow, extra["teacher"], params)}

    def teacher_decay(self, epoch: Array) -> Array:
        """float32, constant within an epoch: rises linearly, then stays."""
        first, last = self.decay
        return first + jnp.minimum(epoch / self.decay_epochs, 1.0) * (last - first)

    def difficulty(self, extra: Tree, patches: Array) -> Array:
        """The teacher's predicted loss of every patch of the whole image, float32[B, N]."""
        variables = {"params": jax.lax.stop_gradient(extra["teacher"])}
        patches = self.pixels.standardize(patches)
        return self.model.apply(variables, patches, method="difficulty")

    def sample(
        self, extra: Tree, patches: Array, draws: Draws, num_hard: int | Array
    ) -> TokenSplit:
        """Which patches each image shows."""
        noise = draws.uniform("mask", (self.pixels.num_tokens,))
        hard = jax.lax.stop_gradient(self.difficulty(extra, patches))
        return guided.easy_to_hard(noise, hard, num_visible=self.num_visible, num_hard=num_hard)

    def encode(self, params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
        """Features of whole images: cls, mean of patch tokens, all tokens (raster, no cls)."""
        patches = self.pixels.standardize(self.pixels.patches(batch["image"]))
        return features(self.model.apply({"params": params}, patches, method="encode"))

    def reconstruct(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """As MAE's, under the mask of the last epoch, with the map of predicted losses.

        Beside what `PatchPixels.pictures` gives: "difficulty" float32[B, N], the teacher's, and
        "errors" float32[B, N], the student's losses.
        """
        seen = self.activations(params, extra, batch, draws)
        pictures = self.pixels.pictures(batch["image"], seen["prediction"], seen["hidden"])
        return {**pictures, **{name: seen[name] for name in ("difficulty", "errors")}}

    def activations(
        self, params: Tree, extra: Tree, batch: Batch, draws: Draws
    ) -> dict[str, Array]:
        """Everything between input and prediction, under the mask of the last epoch.

        "latent" [B, 1 + K, D] in the order of "visible_ids"; in raster order "prediction"
        [B, N, P], its "errors" [B, N], "losses" [B, N] that the student predicts for them,
        "difficulty" [B, N], the teacher's, and "decoder_input" [B, 1 + N, Dd].
        """
        patches = self.pixels.patches(batch["image"])
        split = self.sample(extra, patches, draws, self.hard_counts[-1])
        visible = self.pixels.standardize(masking.tokens.gather(patches, split.visible_ids))
        _, _, seen = self.model.apply({"params": params}, visible, split, taps=("all",))
        prediction = masking.tokens.restore(seen["decoder"]["all"], split)
        return {
            "latent": seen["encoder"]["latent"],
            "decoder_input": raster(seen["decoder"]["input"], split),
            "prediction": prediction,
            "errors": losses.squared_error(prediction, self.pixels.target(patches)),
            "losses": masking.tokens.restore(seen["losses"][..., None], split)[..., 0],
            "difficulty": self.difficulty(extra, patches),
            "visible_ids": split.visible_ids,
            "hidden": split.hidden(),
        }

    def _epoch(self, step: Array) -> Array:
        """int32, at most the last epoch."""
        epoch = jnp.floor(step / self.steps_per_epoch).astype(jnp.int32)
        return jnp.minimum(epoch, len(self.hard_counts) - 1)


def build(cfg: ConfigDict, example: Batch, schedule: Schedule) -> Method:
    """HPM from `config.model`.

    Raises:
        UserError: for sizes, ratios or data that do not fit each other.
    """
    mae = masked_autoencoder.masked_autoencoder(cfg, example, lambda grid, num_visible: None)
    require(cfg.loss in ("relative", "absolute"), "model.loss", cfg.loss, "relative or absolute")
    _check_shares(cfg)
    steps_per_epoch = schedule.steps_per_epoch or 1.0
    epochs = max(1, int(np.ceil(schedule.total_steps / steps_per_epoch)))
    num_hidden = mae.pixels.num_tokens - mae.num_visible
    start, end = cfg.hard_share
    counts = guided.hard_counts(epochs, num_hidden, start=start, end=end)
    hpm = HPM(
        Miner(*mae.model.fields()),
        mae.pixels,
        mae.num_visible,
        cfg.loss,
        tuple(int(count) for count in counts),
        steps_per_epoch,
        tuple(cfg.teacher_decay),
        cfg.teacher_epochs,
    )
    return Method(
        hpm.init,
        (Phase(hpm.loss),),
        {name: getattr(hpm, name) for name in ("encode", "reconstruct", "activations")},
        after_update=hpm.after_update,
        layers=layer_ids(mae.model.encoder_size.depth),
        describe=masked_autoencoder.facts(cfg),
        step_flops=_step_flops(mae.model, mae.num_visible),
    )


def _check_shares(cfg: ConfigDict):
    for key in ("hard_share", "teacher_decay"):
        values = tuple(cfg[key])
        fits = len(values) == 2 and all(0 <= value <= 1 for value in values)
        require(fits, f"model.{key}", values, "must be two numbers in [0, 1]")
    require(cfg.teacher_epochs > 0, "model.teacher_epochs", cfg.teacher_epochs, "must be positive")


def _step_flops(model: Autoencoder, num_visible: int) -> float:
    """Three forward passes of the student with two decoders, one of the teacher over all patches.

    The teacher's pixel decoder is dropped by the compiler: nobody reads it.
    """
    num_tokens, decoder = model.grid[0] * model.grid[1], model.decoder_size
    second = flops.transformer(num_tokens + 1, decoder)
    hidden = num_tokens - num_visible
    student = forward_flops(model, num_visible) + second
    student += flops.linear(hidden, decoder.dim, model.patch_dim)
    teacher = (
        flops.linear(num_tokens, model.patch_dim, model.encoder_size.dim)
        + flops.transformer(num_tokens + 1, model.encoder_size)
        + flops.linear(num_tokens + 1, model.encoder_size.dim, decoder.dim)
        + second
        + flops.linear(num_tokens, decoder.dim, model.patch_dim)
    )
    return 3 * student + teacher
