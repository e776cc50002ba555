"""Multi-head self-attention with separate, head-aligned query, key and value kernels."""

from collections.abc import Callable
from typing import Literal

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from maskjax import masking
from maskjax.masking import attention_ops
from maskjax.nn import lean
from maskjax.nn.dense import Dense
from maskjax.nn.flash import flash_attention
from maskjax.nn.initializers import xavier_uniform
from maskjax.nn.rotary import rotate

Implementation = Literal["einsum", "xla", "cudnn", "pallas", "cudnn_long", "pallas_long"]
# Tokens from which a fused kernel is worth it: below, the scores are small and XLA keeps up.
FUSED_FROM = 1000
# Which keys a query may attend to: a mask, or a function of query and key [B, H, N, d] that makes
# one (no gradient flows through it).
Allow = Array | Callable[[Array, Array], Array]


class Attention(nn.Module):
    """softmax(q k^T / sqrt(d)) v, per head (Vaswani et al. 2017).

    Kernels are [D, heads, head_dim] each, so that a `tensor` axis shards whole heads; the init is
    that of one fused (3D, D) matrix.

    Attributes:
        heads: number of heads; divides D.
        qkv_bias, out_bias: whether those projections have biases.
        key_bias: False leaves the key's out, which softmax does not see (BEiT, VideoMAE).
        dtype: of the matmul operands; scores and softmax are float32.
        implementation: "einsum" (default: any device), the fused kernels of
            `jax.nn.dot_product_attention`, "xla" and "cudnn" (GPU), or "pallas" (TPU, without
            masks). "cudnn_long" and "pallas_long" are that kernel from `FUSED_FROM` tokens on
            where it can serve the masks, and "einsum" elsewhere.
    """

    heads: int
    qkv_bias: bool = True
    out_bias: bool = True
    key_bias: bool = True
    dtype: DTypeLike = jnp.float32
    implementation: Implementation = "einsum"

    @nn.compact
    def __call__(
        self,
        x: Array,
        *,
        memory: tuple[Array, Array] | None = None,
        allow: Allow | None = None,
        bias: Array | None = None,
        rotary: tuple[Array, Array] | None = None,
    ) -> tuple[Array, dict[str, Array]]:
        """x [B, N, D] -> [B, N, D], and what it saw on the way.

        Args:
            x: tokens.
            memory: what keys and values are projected from, [B, K, E] each: cross-attention;
                None = x. The last N of the shapes below is then K.
            allow: bool, broadcastable to [B, heads, N, N], or a function of query and key that
                gives it; True = attend.
            bias: float, broadcastable to [B, heads, N, N], added to the scaled scores.
            rotary: tables of `nn.rotary` for queries and keys; None = no rotary positions.

        Returns:
            The output and {"query", "key", "value": [B, heads, N, d] (after rotary positions),
            "attention": float32[B, heads, N, N]}. What is not used of these is never computed.

        Raises:
            ValueError: if the heads do not divide D, or "pallas" gets a mask or bias.
        """
        chex.assert_rank(x, 3)
        dim = x.shape[-1]
        if dim % self.heads:
            raise ValueError(f"{self.heads} heads do not divide the width {dim}")
        shape = (self.heads, dim // self.heads)
        # Self-attention is one fused layer in the official codes, cross-attention three.
        fan_out = dim if memory else 3 * dim
        seen = {}
        for name, source in zip(("query", "key", "value"), (x, *(memory or (x, x))), strict=True):
            init = xavier_uniform(source.shape[-1], fan_out)
            use_bias = self.qkv_bias and (self.key_bias or name != "key")
            projection = Dense(shape, 1, use_bias, self.dtype, init, name=name)
            seen[name] = projection(source).swapaxes(1, 2)
        if rotary is not None:
            for name, table in zip(("query", "key"), rotary, strict=True):
                seen[name] = rotate(seen[name], table)
        if callable(allow):
            allow = allow(*jax.lax.stop_gradient((seen["query"], seen["key"])))
        query, key, value = seen["query"], seen["key"], seen["value"]
        seen["attention"] = attention_weights(query, key, allow, bias)
        kernel = chosen(self.implementation, query, key, allow, bias)
        if kernel == "einsum":
            mixed = lean.attend(query, key, value, allow=allow, bias=bias)
        elif kernel == "pallas":
            mixed = flash_attention(query, key, value)
        else:
            mixed = _fused(seen, allow, bias, kernel)
        # Kept under remat it would be an eighth of the memory; again, it is a twelfth of the work.
        out = Dense(dim, 2, self.out_bias, self.dtype, keep=False, name="out")
        return out(mixed.swapaxes(1, 2)), seen


def chosen(
    implementation: Implementation,
    query: Array,
    key: Array,
    allow: Array | None = None,
    bias: Array | None = None,
) -> Literal["einsum", "xla", "cudnn", "pallas"]:
    """The kernel for query [B, H, Q, d], key [B, H, K, d] and masks: see `Attention`.

    Raises:
        ValueError: if "pallas" is wanted under a mask or bias.
    """
    kernel = implementation.removesuffix("_long")
    masked = allow is not None or bias is not None
    if kernel == implementation:
        if kernel == "pallas" and masked:
            raise ValueError("attention 'pallas' takes no mask or bias; use 'einsum'")
        return kernel
    num_queries, num_keys = query.shape[2], key.shape[2]
    if max(num_queries, num_keys) < FUSED_FROM:
        return "einsum"
    if kernel == "pallas":
        return "einsum" if masked else kernel
    sizes = {"num_queries": num_queries, "num_keys": num_keys, "head_dim": query.shape[3]}
    masks = {"allow": allow, "bias": bias}
    return kernel if masking.fused(kernel, **sizes, dtype=query.dtype, **masks) else "einsum"


def attention_weights(
    query: Array, key: Array, allow: Array | None = None, bias: Array | None = None
) -> Array:
    """softmax over keys of q k^T / sqrt(d) + bias: [B, H, Q, d], [B, H, K, d] -> [B, H, Q, K].

    Float32 throughout. A query that may attend to nothing attends to everything.
    """
    scores = jnp.einsum("bhqd,bhkd->bhqk", query, key, preferred_element_type=jnp.float32)
    scores = scores * query.shape[-1] ** -0.5
    return attention_ops.weights(scores, allow=allow, bias=bias)


def _fused(
    seen: dict[str, Array], allow: Array | None, bias: Array | None, implementation: str
) -> Array:
    query, key, value = (seen[name].swapaxes(1, 2) for name in ("query", "key", "value"))
    allow = None if allow is None else attention_ops.unblock_empty(allow)
    mixed = jax.nn.dot_product_attention(
        query, key, value, bias=bias, mask=allow, implementation=implementation
    )
    return mixed.swapaxes(1, 2)
