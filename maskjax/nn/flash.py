"""Attention on TPUs that never has the scores in memory: the Pallas kernel of jax, on a mesh.

Dao et al., "FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness", 2022.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import PartitionSpec

from maskjax.nn.sharding import BATCH_AXES, automatic_axes

_TILE = 128  # what the kernel's blocks are multiples of
_BLOCK = 512  # the largest one: scores of 512 x 512 in float32 are 1 MiB of the core's 16


def flash_attention(query: Array, key: Array, value: Array) -> Array:
    """softmax(q k^T / sqrt(d)) v with memory linear in the tokens; TPU only.

    The kernel wants whole blocks of tokens: shorter sequences are padded, and no token attends to
    the padding. On a mesh every device computes its examples and heads alone.

    Args:
        query: [B, H, Q, d].
        key, value: [B, H, K, d].

    Returns:
        [B, H, Q, d].
    """
    sizes = automatic_axes()
    if math.prod(sizes.values()) == 1:
        return _local(query, key, value)
    spec = _spec(sizes, query.shape[0], query.shape[1])
    # The kernel's outputs say nothing about the axes they vary over.
    run = jax.shard_map(
        _local, in_specs=(spec,) * 3, out_specs=spec, axis_names=set(sizes), check_vma=False
    )
    return run(query, key, value)


def _spec(sizes: dict[str, int], batch: int, heads: int) -> PartitionSpec:
    """Where [B, H, N, d] lies on axes of these sizes."""
    rows = tuple(axis for axis in BATCH_AXES if axis in sizes)
    over_rows = batch % math.prod(sizes[axis] for axis in rows) == 0
    over_heads = "tensor" in sizes and heads % sizes["tensor"] == 0
    return PartitionSpec(rows if over_rows else None, "tensor" if over_heads else None, None, None)


def _local(query: Array, key: Array, value: Array) -> Array:
    from jax.experimental.pallas.ops.tpu import flash_attention as kernel

    num_queries, num_keys = query.shape[2], key.shape[2]
    query, key, value = (_padded(x) for x in (query, key, value))
    sizes = _block(query.shape[2]), _block(key.shape[2])
    segments = None
    if key.shape[2] != num_keys or query.shape[2] != num_queries:
        segments = kernel.SegmentIds(_segments(query, num_queries), _segments(key, num_keys))
    mixed = kernel.flash_attention(
        query,
        key,
        value,
        segment_ids=segments,
        sm_scale=query.shape[-1] ** -0.5,
        block_sizes=_block_sizes(kernel.BlockSizes, *sizes),
    )
    return mixed[:, :, :num_queries]


def _padded(x: Array) -> Array:
    """[B, H, N, d] with N brought to a multiple of a tile."""
    return jnp.pad(x, ((0, 0), (0, 0), (0, -x.shape[2] % _TILE), (0, 0)))


def _segments(x: Array, real: int) -> Array:
    """int32[B, N]: 0 for tokens, 1 for padding; tokens attend to their own segment only."""
    row = (jnp.arange(x.shape[2]) >= real).astype(jnp.int32)
    return jnp.broadcast_to(row, (x.shape[0], x.shape[2]))


def _block(tokens: int) -> int:
    """The largest block that divides a multiple of a tile."""
    return next(size for size in range(_BLOCK, 0, -_TILE) if tokens % size == 0)


def _block_sizes(make, queries: int, keys: int):
    return make(
        block_q=queries,
        block_k_major=keys,
        block_k=keys,
        block_b=1,
        block_q_major_dkv=queries,
        block_k_major_dkv=keys,
        block_k_dkv=keys,
        block_q_dkv=queries,
        block_k_major_dq=keys,
        block_k_dq=keys,
        block_q_dq=queries,
    )
