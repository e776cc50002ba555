"""Rows of `mutation_table` for masked convnets: SparK, layer masking."""

SPARK = (
    (
        "sign",
        "hidden and visible cells change places",
        "methods/mim/spark.py",
        "rearrange(~hidden,",
        "rearrange(hidden,",
    ),
    (
        "normaliser",
        "loss divided by all patches",
        "methods/mim/spark.py",
        "(self.pixels.num_tokens - self.num_visible) + EPS",
        "self.pixels.num_tokens + EPS",
    ),
    (
        "stop-gradient",
        "batch norm counts hidden positions",
        "nn/masked_conv.py",
        "masked_moments(x, valid,",
        "masked_moments(x, jnp.ones_like(valid),",
    ),
    (
        "order",
        "transposed kernels not turned on export",
        "interop/layouts/spark.py",
        "_SWAP.to_torch(leaf[::-1, ::-1])",
        "_SWAP.to_torch(leaf)",
    ),
    (
        "count",
        "visible cells rounded down",
        "methods/mim/spark.py",
        "number = round(num_cells * (1 - mask_ratio))",
        "number = int(num_cells * (1 - mask_ratio))",
    ),
)
LAYER_MASKING = (
    (
        "sign",
        "black is painted white",
        "methods/explain/layer_masking.py",
        "black = -jnp.asarray(self.cfg.mean)",
        "black = jnp.asarray(self.cfg.mean)",
    ),
    (
        "normaliser",
        "LIME's kernel without the root",
        "explain/lime.py",
        "jnp.sqrt(jnp.exp(-jnp.square(distance) / KERNEL_WIDTH**2))",
        "jnp.exp(-jnp.square(distance) / KERNEL_WIDTH**2)",
    ),
    (
        "stop-gradient",
        "gradient flows through the filling",
        "masking/neighbour.py",
        "jax.lax.stop_gradient(x).astype(jnp.float32), valid",
        "x.astype(jnp.float32), valid",
    ),
    (
        "order",
        "broken masks swap left and right only",
        "explain/missingness.py",
        "(height // 2, width // 2)",
        "(0, width // 2)",
    ),
    (
        "count",
        "one ring of filling too few",
        "masking/neighbour.py",
        "num_passes=max(window.reach) - 1",
        "num_passes=max(max(window.reach) - 2, 0)",
    ),
)
