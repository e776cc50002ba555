"""Deliberate mistakes in the equations of methods, for tests/mutations.py.

`old` occurs once in `file`; with `new` in its place the program still runs, and something must
notice. Where a method has no gradient to stop, another kind of mistake stands in its place, such as
showing the model what it must not see.
"""

from typing import NamedTuple

from mutation_rows_convnets import LAYER_MASKING, SPARK
from mutation_rows_distill import DMAE, MASKALIGN
from mutation_rows_mimic import HYBRID_DISTILL, MR_MAE
from mutation_rows_points import I2P_MAE


class Mutation(NamedTuple):
    """One mistake: of a method, of a kind, in words, and the text that makes it."""

    method: str
    kind: str
    what: str
    file: str
    old: str
    new: str


class Checks(NamedTuple):
    """What must notice: golden files (names without .npz) and test files."""

    goldens: tuple[str, ...]
    tests: tuple[str, ...]


CHECKS = {
    "simmim": Checks(("simmim",), ("methods/test_simmim.py",)),
    "colormae": Checks(("colormae",), ("methods/test_colormae.py",)),
    "hpm": Checks(("hpm",), ("methods/test_hpm.py",)),
    "mto": Checks(
        ("mto",),
        (
            "losses/test_mask_tokens.py",
            "pretext/test_token_optimization.py",
            "methods/test_mto.py",
            "methods/test_mto_cae.py",
        ),
    ),
    "mixedae": Checks(("mixedae",), ("methods/test_mixedae.py",)),
    "selfie": Checks(("selfie",), ("methods/test_selfie.py",)),
    "cae": Checks(("cae", "cae_dalle_tokenizer"), ("methods/test_cae.py", "nn/test_dalle.py")),
    "crate_mae": Checks(("crate_mae",), ("methods/test_crate_mae.py",)),
    "dmae": Checks(("dmae",), ("methods/test_dmae.py",)),
    "maskalign": Checks(("maskalign",), ("methods/test_maskalign.py",)),
    "i2p_mae": Checks(("i2p_mae",), ("methods/test_i2p_mae.py",)),
    "spark": Checks(("spark_resnet", "spark_convnext"), ("methods/test_spark.py",)),
    "layer_masking": Checks(
        ("layer_masking",),
        (
            "masking/test_layer_masking.py",
            "explain/test_lime.py",
            "explain/test_missingness.py",
            "methods/test_layer_masking_method.py",
        ),
    ),
    "mr_mae": Checks(("mr_mae",), ("methods/test_mr_mae.py",)),
    "hybrid_distill": Checks((), ("methods/test_hybrid_distill.py", "masking/test_confidence.py")),
}

_SIMMIM = (
    (
        "sign",
        "errors without absolute value",
        "losses/pixel.py",
        "jnp.where(hidden, jnp.abs(difference), 0)",
        "jnp.where(hidden, difference, 0)",
    ),
    (
        "normaliser",
        "loss not divided by channels",
        "methods/mim/simmim.py",
        "(pixels + PIXEL_EPS) * channels)",
        "(pixels + PIXEL_EPS))",
    ),
    (
        "leak",
        "mask token in place of the visible patches",
        "nn/teacher_vit.py",
        "jnp.where(hidden[..., None], self.mask_token",
        "jnp.where(~hidden[..., None], self.mask_token",
    ),
    (
        "order",
        "Swin merges patches column after row",
        "nn/swin_block.py",
        "b (r c) (q p d)",
        "b (r c) (p q d)",
    ),
    (
        "count",
        "number of hidden cells rounded down",
        "masking/cells.py",
        'rounding="ceil"',
        'rounding="floor"',
    ),
)
_COLORMAE = (
    (
        "sign",
        "the lowest noise stays visible",
        "masking/colors.py",
        "from_scores(-_flat(take_window",
        "from_scores(_flat(take_window",
    ),
    (
        "normaliser",
        "windows divided by their sum",
        "masking/colors.py",
        "part / jnp.where(part.max() > 0, part.max(), 1)",
        "part / part.sum()",
    ),
    (
        "filter",
        "stop band and pass band of purple exchanged",
        "masking/noise_filters.py",
        'white - band if color in ("blue", "purple") else band',
        'white - band if color == "blue" else band',
    ),
    (
        "order",
        "flips of rows and columns exchanged",
        "masking/colors.py",
        "jnp.where(window.flip_rows, part[::-1], part)",
        "jnp.where(window.flip_columns, part[::-1], part)",
    ),
    (
        "count",
        "kernels end after three standard deviations",
        "masking/noise_filters.py",
        "TRUNCATE = 4.0",
        "TRUNCATE = 3.0",
    ),
)
_HPM = (
    (
        "sign",
        "the easier of two patches should get the higher value",
        "losses/order.py",
        "jax.nn.sigmoid(prediction[..., None, :] - prediction[..., :, None])",
        "jax.nn.sigmoid(prediction[..., :, None] - prediction[..., None, :])",
    ),
    (
        "normaliser",
        "ties and the diagonal count",
        "losses/order.py",
        "counted = larger | smaller",
        "counted = jnp.ones_like(larger)",
    ),
    (
        "stop-gradient",
        "the absolute loss teaches the pixel decoder",
        "losses/order.py",
        "target = jax.lax.stop_gradient(target.astype(jnp.float32))",
        "target = target.astype(jnp.float32)",
    ),
    (
        "order",
        "the easiest patches are hidden",
        "masking/guided.py",
        "jnp.where(rank >= num_tokens - hard, jnp.inf, noise)",
        "jnp.where(rank < hard, jnp.inf, noise)",
    ),
    (
        "count",
        "hard patches begin an epoch late",
        "masking/guided.py",
        "np.arange(1, num_stages + 1, dtype=np.float64)",
        "np.arange(num_stages, dtype=np.float64)",
    ),
)
_MTO = (
    (
        "sign",
        "mask tokens should be close to visible ones",
        "losses/mask_tokens.py",
        "visible, temperature) + closeness(",
        "visible, temperature) - closeness(",
    ),
    (
        "normaliser",
        "entropy divided by the logarithm of all tokens",
        "losses/mask_tokens.py",
        "return entropy / jnp.log(visible.sum(-1, keepdims=True))",
        "return entropy / jnp.log(visible.shape[-1])",
    ),
    (
        "stop-gradient",
        "visible features move, too",
        "losses/mask_tokens.py",
        "x = jnp.where(visible[..., None], jax.lax.stop_gradient(x), x)",
        "x = x",
    ),
    (
        "order",
        "mask tokens lose the attention to visible ones",
        "losses/mask_tokens.py",
        "visible[..., :, None] & hidden[..., None, :]",
        "hidden[..., :, None] & visible[..., None, :]",
    ),
    (
        "count",
        "means over tokens forget the layers",
        "pretext/token_optimization.py",
        "weight = count * tokens[name]",
        "weight = tokens[name]",
    ),
)
_MIXEDAE = (
    (
        "sign",
        "tokens of one image are pushed apart",
        "losses/contrastive.py",
        "return -jnp.where(positive",
        "return jnp.where(positive",
    ),
    (
        "normaliser",
        "contrastive loss divided by all tokens",
        "losses/contrastive.py",
        "/ jnp.maximum(count, 1)",
        "/ labels.shape[-1]",
    ),
    (
        "leak",
        "a token counts among its own candidates",
        "losses/contrastive.py",
        "jnp.where(self_pair, -jnp.inf, logits)",
        "logits",
    ),
    (
        "order",
        "a decoder gets the tokens of the next image of the group",
        "methods/mim/mixedae.py",
        'apart = rearrange(latent[:, 1:], "b (g k) d',
        'apart = rearrange(jnp.roll(latent[:, 1:], visible.shape[1], 1), "b (g k) d',
    ),
    (
        "count",
        "a query keeps one key more",
        "masking/attend.py",
        "[..., num_keys - num_keep, None]",
        "[..., num_keys - num_keep - 1, None]",
    ),
)
_SELFIE = (
    (
        "sign",
        "the highest scores are the context",
        "methods/mim/selfie.py",
        "ids = jnp.argsort(score, axis=-1)",
        "ids = jnp.argsort(-score, axis=-1)",
    ),
    (
        "normaliser",
        "logits divided by the root of the width",
        "methods/mim/selfie.py",
        "if self.scale_logits:",
        "if not self.scale_logits:",
    ),
    (
        "leak",
        "the pooling sees the targets",
        "methods/mim/selfie.py",
        "self.pooled(features, split.visible_ids, keep)",
        "self.pooled(features, split.ids, keep)",
    ),
    (
        "order",
        "places and patches exchanged in the logits",
        "methods/mim/selfie.py",
        '"btd,bjd->btj"',
        '"btd,bjd->bjt"',
    ),
    (
        "count",
        "one target too few",
        "methods/mim/selfie.py",
        "num_targets = int(cfg.target_ratio * num_tokens)",
        "num_targets = int(cfg.target_ratio * num_tokens) - 1",
    ),
)
_CAE = (
    (
        "sign",
        "latents should differ from their targets",
        "methods/mim/cae.py",
        "distance.size, self.align_weight",
        "distance.size, -self.align_weight",
    ),
    (
        "residual",
        "second residual of the regressor starts before its norm",
        "nn/cross_attention.py",
        "x = (normed if self.from_normed else x) + branch",
        "x = (x if self.from_normed else normed) + branch",
    ),
    (
        "normaliser",
        "alignment is a sum over channels",
        "methods/mim/cae.py",
        "Term(distance.sum(), distance.size, self.align_weight)",
        "Term(distance.sum(), len(distance), self.align_weight)",
    ),
    (
        "stop-gradient",
        "gradient flows into the target latents",
        "methods/mim/cae.py",
        "frozen, hidden = jax.lax.stop_gradient((params, hidden))",
        "frozen = params",
    ),
    (
        "order",
        "values of the regressor in another order than its keys",
        "nn/cross_attention.py",
        "memory = jnp.concatenate([memory, x], axis=1)",
        "memory = jnp.concatenate([x, memory], axis=1)",
    ),
    (
        "count",
        "residual gain of the tokenizer by groups alone",
        "nn/dalle.py",
        "1 / (self.groups * self.blocks) ** 2",
        "1 / self.groups**2",
    ),
)
_CRATE_MAE = (
    (
        "sign",
        "decoder layers add their attention",
        "nn/crate.py",
        'return x - branch, {**seen, "linear": x, "mssa": branch, "block": x - branch}',
        'return x + branch, {**seen, "linear": x, "mssa": branch, "block": x + branch}',
    ),
    (
        "normaliser",
        "sparsity not scaled by the step",
        "nn/crate.py",
        "self.step * (gradient - self.sparsity)",
        "self.step * gradient - self.sparsity",
    ),
    (
        "positions",
        "positions of visible patches on mask tokens, too",
        "nn/crate_autoencoder.py",
        "positions = jnp.take(self._positions(), split.ids, axis=0)",
        "positions = jnp.take(self._positions(), split.ids % split.num_visible, axis=0)",
    ),
    (
        "order",
        "dictionary not transposed in the gradient",
        "nn/crate.py",
        '_product("bnd,de->bne", u - coded, dictionary)',
        '_product("bnd,ed->bne", u - coded, dictionary)',
    ),
    (
        "count",
        "loss is a sum over hidden patches",
        "methods/mim/crate_mae.py",
        "Term(errors.sum(), errors.size)",
        "Term(errors.sum(), len(errors))",
    ),
)
_ALL = {
    "simmim": _SIMMIM,
    "colormae": _COLORMAE,
    "hpm": _HPM,
    "mto": _MTO,
    "mixedae": _MIXEDAE,
    "selfie": _SELFIE,
    "cae": _CAE,
    "crate_mae": _CRATE_MAE,
    "dmae": DMAE,
    "maskalign": MASKALIGN,
    "spark": SPARK,
    "layer_masking": LAYER_MASKING,
    "mr_mae": MR_MAE,
    "hybrid_distill": HYBRID_DISTILL,
    "i2p_mae": I2P_MAE,
}
MUTATIONS = tuple(Mutation(method, *row) for method, rows in _ALL.items() for row in rows)
