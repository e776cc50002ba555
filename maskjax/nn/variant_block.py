"""The pre-norm transformer block with the options that other published ViTs have."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from maskjax.nn import lean
from maskjax.nn.attention import Allow, Attention, Implementation
from maskjax.nn.block import scale_branch
from maskjax.nn.dense import Dense
from maskjax.nn.geometry import Geometry
from maskjax.nn.norm import LayerNorm
from maskjax.nn.relative import relative_bias


@dataclasses.dataclass(frozen=True)
class Variant:
    """Options of a block; the defaults give the plain block of ViT. Names as in `Geometry`.

    Attributes:
        qkv_bias: "all", "query_value" or "none".
        layer_scale: initial value of the branches' channel factors; 0 = there are none.
        activation: "gelu" (exact) or "quick_gelu".
        mlp: "plain" or "swiglu".
        relative: (rows, columns) of the grid of a relative bias table; () = none.
        cls: whether a class token is in front (of the relative bias).
    """

    qkv_bias: str = "all"
    layer_scale: float = 0.0
    activation: str = "gelu"
    mlp: str = "plain"
    relative: tuple[int, int] | tuple[()] = ()
    cls: bool = True

    @classmethod
    def of(cls, geometry: Geometry, layer_scale: float = 1.0) -> "Variant":
        """The options of a geometry; its layer scale, if any, starts at `layer_scale`."""
        return cls(
            geometry.qkv_bias,
            layer_scale if geometry.layer_scale else 0.0,
            geometry.activation,
            geometry.mlp,
            () if geometry.relative == "none" else geometry.grid,
            geometry.cls,
        )


def quick_gelu(x: Array) -> Array:
    """x sigmoid(1.702 x), float32."""
    x = x.astype(jnp.float32)
    return x * jax.nn.sigmoid(1.702 * x)


def swiglu(gate: Array, x: Array) -> Array:
    """silu(gate) * x, float32."""
    return jax.nn.silu(gate.astype(jnp.float32)) * x


ACTIVATIONS = {"gelu": lean.gelu, "quick_gelu": quick_gelu}


class VariantMlp(nn.Module):
    """fc2(activation(fc1(x))), or SwiGLU: fc2(silu(gate(x)) * fc1(x)) (Shazeer 2020).

    Attributes:
        hidden: width between the layers.
        variant: activation and mlp are used.
        dtype: of the matmul operands.
    """

    hidden: int
    variant: Variant = Variant()
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x [B, N, D] -> [B, N, D]."""
        hidden = Dense(self.hidden, dtype=self.dtype, name="fc1")(x)
        inputs, before = (hidden,), ACTIVATIONS[self.variant.activation]
        if self.variant.mlp == "swiglu":
            gate = Dense(self.hidden, dtype=self.dtype, name="gate")(x)
            inputs, before = (gate, hidden), swiglu
        return Dense(x.shape[-1], dtype=self.dtype, before=before, name="fc2")(*inputs)


class LayerScale(nn.Module):
    """A factor for each channel (Touvron et al. 2021, CaiT).

    Attributes:
        value: where the factors start.
    """

    value: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x [..., D] -> [..., D]."""
        scale = self.param("scale", nn.initializers.constant(self.value), x.shape[-1:])
        return x * scale.astype(x.dtype)


class VariantBlock(nn.Module):
    """x + s1 * attention(norm(x)), then x + s2 * mlp(norm(x)), with options.

    Attributes:
        heads: attention heads.
        mlp_hidden: hidden width of the MLP.
        variant: the options.
        eps: of the two LayerNorms.
        dtype: of matmul operands and of the residual stream.
        implementation: of the attention, see `Attention`.
    """

    heads: int
    mlp_hidden: int
    variant: Variant = Variant()
    eps: float = 1e-6
    dtype: DTypeLike = jnp.float32
    implementation: Implementation = "einsum"

    @nn.compact
    def __call__(
        self,
        x: Array,
        branch_scale: Array | None = None,
        allow: Allow | None = None,
        rotary: Array | None = None,
        bias: Array | None = None,
    ) -> tuple[Array, dict[str, Array]]:
        """x [B, N, D] -> [B, N, D] and {tap: activation}; arguments as of `Block`.

        `rotary` is a table of `nn.rotary` for the tokens.
        """
        attention = Attention(
            self.heads,
            qkv_bias=self.variant.qkv_bias != "none",
            key_bias=self.variant.qkv_bias == "all",
            dtype=self.dtype,
            implementation=self.implementation,
            name="attn",
        )
        norm = LayerNorm(self.eps, self.dtype, name="norm1")(x)
        turns = None if rotary is None else (rotary, rotary)
        branch, seen = attention(norm, allow=allow, bias=self._bias(bias), rotary=turns)
        x = x + layer_scaled(branch, self.variant.layer_scale, branch_scale, 0)
        norm = LayerNorm(self.eps, self.dtype, name="norm2")(x)
        branch = VariantMlp(self.mlp_hidden, self.variant, self.dtype, name="mlp")(norm)
        x = x + layer_scaled(branch, self.variant.layer_scale, branch_scale, 1)
        return x, {**seen, "block": x}

    def _bias(self, given: Array | None) -> Array | None:
        """The layer's relative bias, if it has one, and the given one."""
        variant = self.variant
        if not variant.relative:
            return given
        rows, columns = variant.relative
        num = (2 * rows - 1) * (2 * columns - 1) + 3 * variant.cls
        table = self.param("relative", nn.initializers.zeros, (num, self.heads))
        relative = relative_bias(table, variant.relative, cls=variant.cls)
        return relative if given is None else relative + given


def layer_scaled(branch: Array, initial: float, scale: Array | None, index: int) -> Array:
    """A branch times its channel factors (layer "ls1" or "ls2" of the module that calls) and scale.

    Args:
        branch: [B, N, D].
        initial: where the factors start; 0 = there are none.
        scale, index: as of `scale_branch`.
    """
    if initial:
        branch = LayerScale(initial, name=f"ls{index + 1}")(branch)
    return scale_branch(branch, scale, index)


def shared_table(params: dict, table: Array, depth: int) -> dict:
    """Parameters of a stack without tables, with one table [T, H] put into each of its layers."""
    return {**params, "relative": jnp.broadcast_to(table, (depth, *table.shape))}
