"""Rows of `mutation_table` for point clouds: I2P-MAE."""

I2P_MAE = (
    (
        "sign",
        "depths are drawn from behind",
        "targets/point_views.py",
        '"bnr,bnc->brc", rows * depth, columns',
        '"bnr,bnc->brc", rows * -depth, columns',
    ),
    (
        "normaliser",
        "error of the features divided by all places, padding too",
        "methods/views/i2p_mae.py",
        "_count(shown), self.weight)",
        "shown.size, self.weight)",
    ),
    (
        "stop-gradient",
        "gradients flow into the 2-D network",
        "pretext/point_semantics.py",
        "jax.lax.stop_gradient(self.look(jax.lax.stop_gradient(params), together))",
        "self.look(params, together)",
    ),
    (
        "order",
        "what the coarser scale says stands in front",
        "nn/point_autoencoder.py",
        "jnp.concatenate([known, said], -1)",
        "jnp.concatenate([said, known], -1)",
    ),
    (
        "count",
        "interpolation from two neighbours",
        "nn/point_ops.py",
        "num: int = 3, eps",
        "num: int = 2, eps",
    ),
    (
        "leak",
        "members of hidden tokens are visible",
        "masking/hierarchy.py",
        ".at[ids].max(visible[:, None])",
        ".at[ids].set(True)",
    ),
)
