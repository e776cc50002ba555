"""Which masks a fused attention kernel may serve."""

from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

Kernel = Literal["xla", "cudnn"]


class Served(NamedTuple):
    """The answer of `fused`.

    Attributes:
        ok: whether the kernel computes what `attention_ops.attend` would.
        reasons: why not, one sentence each, with what can be done.
    """

    ok: bool
    reasons: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.ok


def fused(
    kernel: Kernel,
    *,
    num_queries: int,
    num_keys: int,
    head_dim: int,
    dtype: DTypeLike,
    factor: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    allow: ArrayLike | None = None,
    gain: ArrayLike | None = None,
    need_weights: bool = False,
    training: bool = True,
    head_dim_limit: int = 128,
) -> Served:
    """Whether `jax.nn.dot_product_attention(implementation=kernel)` may serve these masks.

    `allow` and `bias` go to its `mask` and `bias`. Whatever depends on the keys or the queries
    alone, and `unblock_empty`, is done before the call, so it needs nothing from the kernel. Looks
    at shapes only: works on arrays, tracers and `jax.ShapeDtypeStruct`. The limits are those in
    the source of jax 0.10 (`jax/_src/cudnn/fused_attention_stablehlo.py`).

    Args:
        kernel: "xla" (any device; not a flash kernel) or "cudnn" (GPU).
        num_queries, num_keys, head_dim, dtype: of query, key and value.
        factor, bias, allow, gain: the masks, None = not used.
        need_weights: the attention weights themselves are wanted.
        training: whether there will be a backward pass.
        head_dim_limit: of cuDNN: 128, or 256 from Hopper GPUs on.

    Raises:
        ValueError: for an unknown kernel.
    """
    if kernel not in ("xla", "cudnn"):
        raise ValueError(f"kernel must be 'xla' or 'cudnn', got {kernel!r}")
    reasons = _not_in_the_kernel(factor, gain, need_weights)
    masks = {"bias": bias, "allow": allow}
    for name, mask in masks.items():
        if mask is not None and len(jnp.shape(mask)) > 4:
            reasons.append(f"{name} has shape {jnp.shape(mask)}: at most [B, heads, Q, K]")
    if kernel == "cudnn":
        sizes = (num_queries, num_keys)
        masked = bias is not None or allow is not None
        reasons += _limits_of_cudnn(sizes, head_dim, dtype, masked and training, head_dim_limit)
        reasons += _shapes_for_cudnn(masks, sizes)
    return Served(not reasons, tuple(reasons))


def _not_in_the_kernel(factor: Any, gain: Any, need_weights: bool) -> list[str]:
    reasons = []
    if factor is not None:
        reasons.append(
            "factor multiplies the scores inside the softmax: no kernel has it; one that depends "
            "on the key alone goes into the key (query alone: into the query)"
        )
    if gain is not None:
        reasons.append(
            "gain multiplies the weights after the softmax: no kernel has it; one that depends on "
            "the key alone goes into the value (query alone: onto the result)"
        )
    if need_weights:
        reasons.append("a fused kernel never has the attention weights in memory")
    return reasons


def _limits_of_cudnn(
    sizes: tuple[int, int], head_dim: int, dtype: DTypeLike, biased_training: bool, limit: int
) -> list[str]:
    reasons = []
    if jnp.dtype(dtype) not in (jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float16)):
        reasons.append(f"cudnn takes bfloat16 or float16 operands, got {jnp.dtype(dtype)}")
    if head_dim % 8 or head_dim > limit:
        reasons.append(f"cudnn takes head_dim <= {limit} in multiples of 8, got {head_dim}")
    if biased_training and (sizes[0] % 2 or sizes[1] % 2):
        reasons.append(
            f"cudnn trains with a mask or bias on even numbers of tokens only, got {sizes}: pad"
        )
    return reasons


def _shapes_for_cudnn(masks: dict[str, Any], sizes: tuple[int, int]) -> list[str]:
    """The kernel adds mask and bias up; what remains must have all queries and keys."""
    shapes = [(1, 1, *jnp.shape(mask))[-2:] for mask in masks.values() if mask is not None]
    if not shapes or jnp.broadcast_shapes(*shapes) == sizes:
        return []
    return [f"cudnn needs mask and bias over all {sizes} queries and keys: broadcast them"]
