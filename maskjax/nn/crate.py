"""White-box blocks of CRATE: compression by tied attention, sparsification by a proximal step.

Pai, Buchanan, Wu, Yu, Ma, "Masked Completion via Structured Diffusion with White-Box Transformers",
ICLR 2024, with the details of the official code. Every layer is a step that lowers the rate of the
tokens against K subspaces (MSSA), then one of sparse coding in a dictionary (ISTA).
"""

import math

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from maskjax.nn import lean
from maskjax.nn.attention import attention_weights
from maskjax.nn.dense import Dense
from maskjax.nn.initializers import symmetric_uniform, xavier_uniform
from maskjax.nn.norm import LayerNorm


class TiedAttention(nn.Module):
    """MSSA: attention in which query, key and value are one projection (the paper's eq. 11).

    Attributes:
        heads: K subspaces; divides D.
        dtype: of the matmul operands; scores and softmax are float32.
    """

    heads: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, dict[str, Array]]:
        """x [B, N, D] -> [B, N, D] and {"subspace": [B, K, N, D / K], "attention": [B, K, N, N]}.

        Raises:
            ValueError: if the heads do not divide D.
        """
        chex.assert_rank(x, 3)
        dim = x.shape[-1]
        if dim % self.heads:
            raise ValueError(f"{self.heads} heads do not divide the width {dim}")
        shape = (self.heads, dim // self.heads)
        init = xavier_uniform(dim, dim)
        subspace = Dense(shape, 1, False, self.dtype, init, name="subspace")(x).swapaxes(1, 2)
        mixed = lean.attend(subspace, subspace, subspace).swapaxes(1, 2)
        seen = {"subspace": subspace, "attention": attention_weights(subspace, subspace)}
        if self.heads == 1:  # the official code has no projection then
            return mixed[:, :, 0], seen
        return Dense(dim, 2, dtype=self.dtype, keep=False, name="out")(mixed), seen


class Ista(nn.Module):
    """One ISTA step of a non-negative sparse code (the paper's eq. 14).

    relu(u + eta W^T u - eta W^T W u - eta lam), W = `dictionary` [D, D] as `y = W u`.

    Attributes:
        step: eta.
        sparsity: lam.
        dtype: of the matmul operands.
    """

    step: float = 0.1
    sparsity: float = 0.5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, u: Array) -> Array:
        """u [B, N, D] -> [B, N, D], >= 0."""
        dictionary = self.param("dictionary", *_dictionary(u.shape[-1])).astype(self.dtype)
        u = u.astype(self.dtype)
        coded = _product("bnd,ed->bne", u, dictionary).astype(self.dtype)
        gradient = _product("bnd,de->bne", u - coded, dictionary)
        stepped = u.astype(jnp.float32) + self.step * (gradient - self.sparsity)
        return jax.nn.relu(stepped).astype(self.dtype)


def _dictionary(dim: int) -> tuple:
    """Kaiming-uniform with gain sqrt(2), as the official code starts it: bound sqrt(6 / D)."""
    return symmetric_uniform(math.sqrt(6 / dim)), (dim, dim)


def _product(pattern: str, x: Array, kernel: Array) -> Array:
    return jnp.einsum(pattern, x, kernel, preferred_element_type=jnp.float32)


# What a layer gives: its result; the tokens in each subspace and their attention; the branch.
ENCODER_TAPS = ("block", "subspace", "attention", "mssa")
DECODER_TAPS = ("block", "subspace", "attention", "mssa", "linear")


class CrateBlock(nn.Module):
    """Encoder layer: z' = z + MSSA(norm1(z)); then ISTA(norm2(z')), with no residual around it.

    Attributes:
        heads: K subspaces.
        step, sparsity: eta and lam of the ISTA step.
        eps: of the two LayerNorms (1e-5 in the official code).
        dtype: of matmul operands and of the tokens.
    """

    heads: int
    step: float = 0.1
    sparsity: float = 0.5
    eps: float = 1e-5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Array, branch_scale: Array | None = None, allow: Array | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """x [B, N, D] -> [B, N, D] and {tap: activation}; the other two must be None."""
        _plain(branch_scale, allow)
        attention = TiedAttention(self.heads, self.dtype, name="attn")
        branch, seen = attention(LayerNorm(self.eps, self.dtype, name="norm1")(x))
        x = x + branch
        ista = Ista(self.step, self.sparsity, self.dtype, name="ista")
        coded = ista(LayerNorm(self.eps, self.dtype, name="norm2")(x))
        return coded, {**seen, "mssa": branch, "block": coded}


class CrateDecoderBlock(nn.Module):
    """Decoder layer, the encoder's approximate inverse: z' = W norm1(z); then z' - MSSA(norm2(z')).

    Attributes:
        heads: K subspaces.
        eps: of the two LayerNorms (1e-5 in the official code).
        dtype: of matmul operands and of the tokens.
    """

    heads: int
    eps: float = 1e-5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Array, branch_scale: Array | None = None, allow: Array | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """x [B, N, D] -> [B, N, D] and {tap: activation}; the other two must be None."""
        _plain(branch_scale, allow)
        dictionary = self.param("dictionary", *_dictionary(x.shape[-1])).astype(self.dtype)
        x = LayerNorm(self.eps, self.dtype, name="norm1")(x)
        x = _product("bnd,ed->bne", x, dictionary).astype(self.dtype)
        attention = TiedAttention(self.heads, self.dtype, name="attn")
        branch, seen = attention(LayerNorm(self.eps, self.dtype, name="norm2")(x))
        return x - branch, {**seen, "linear": x, "mssa": branch, "block": x - branch}


def _plain(branch_scale: Array | None, allow: Array | None):
    if branch_scale is not None or allow is not None:
        raise ValueError("CRATE blocks have neither drop-path nor attention masks")
