"""Rows of `mutation_table` for students of whole teachers: MR-MAE, Hybrid Distill."""

_TEACHER_LEARNS = (
    "stop-gradient",
    "the teacher learns",
    "pretext/teacher.py",
    "        params = jax.lax.stop_gradient(params)\n",
    "",
)
MR_MAE = (
    (
        "sign",
        "convolutions see the hidden cells",
        "nn/conv_autoencoder.py",
        "rearrange(visible,",
        "rearrange(~visible,",
    ),
    (
        "normaliser",
        "mimic loss is a sum over tokens",
        "methods/distill/mr_mae.py",
        "Term(distance.sum(), distance.size, self.weight)",
        "Term(distance.sum(), len(distance), self.weight)",
    ),
    _TEACHER_LEARNS,
    (
        "order",
        "positions of the first cells on the visible ones",
        "nn/conv_autoencoder.py",
        "table if ids is None else jnp.take(table, ids, axis=0)",
        "table if ids is None else table[: ids.shape[1]]",
    ),
    (
        "count",
        "fused layers are summed",
        "methods/distill/mr_mae.py",
        "layers.astype(jnp.float32).mean(0)",
        "layers.astype(jnp.float32).sum(0)",
    ),
    (
        "leak",
        "the depth-wise convolution sees everything",
        "nn/conv_autoencoder.py",
        "y, _ = conv(y, valid)",
        "y, _ = conv(y, None)",
    ),
)
HYBRID_DISTILL = (
    (
        "sign",
        "the least redundant tokens leave",
        "masking/progressive.py",
        "_lowest(score, active, count)",
        "_lowest(-score, active, count)",
    ),
    (
        "normaliser",
        "relations divided by d, not by its root",
        "losses/relation.py",
        "scores * left.shape[-1] ** -0.5",
        "scores * left.shape[-1] ** -1.0",
    ),
    _TEACHER_LEARNS,
    (
        "order",
        "the teacher's tokens in raster order",
        "pretext/relation_target.py",
        "ids = None if ids is None else ids[:, :count]",
        "ids = None if ids is None else jnp.sort(ids[:, :count], axis=1)",
    ),
    (
        "count",
        "relations of the last layer, too",
        "pretext/relation_target.py",
        "range(max(1, size.depth - 1))",
        "range(max(1, size.depth))",
    ),
    (
        "redundancy",
        "a token is compared with itself, too",
        "masking/progressive.py",
        "others = anchors.sum(-1, keepdims=True) - anchors",
        "others = anchors.sum(-1, keepdims=True)",
    ),
)
