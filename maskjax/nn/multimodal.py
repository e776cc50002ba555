"""MultiMAE's network: tokens of several modalities, one encoder, a light decoder for each task.

Bachmann, Mizrahi, Atanov, Zamir, "MultiMAE: Multi-modal Multi-task Masked Autoencoders", ECCV 2022.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from maskjax import masking
from maskjax.masking import TokenSplit
from maskjax.nn import flops, initializers
from maskjax.nn.cross_attention import CrossBlock
from maskjax.nn.dense import Dense
from maskjax.nn.position import sincos_2d
from maskjax.nn.sharding import constrain_batch
from maskjax.nn.vit import Compute, Size


@dataclasses.dataclass(frozen=True)
class Modality:
    """What one modality puts into a token, and what is predicted for it.

    Attributes:
        name: of the field of a batch.
        values: numbers of a raw patch: pixels x channels, or label pixels.
        classes: number of classes of labels; 0 = numbers.
        class_dim: width of the embedding of a class.
    """

    name: str
    values: int
    classes: int = 0
    class_dim: int = 0

    @property
    def outputs(self) -> int:
        """Numbers that are predicted for a patch."""
        return self.values * max(self.classes, 1)


class MultiModalEncoder(nn.Module):
    """Tokens of any modalities through one transformer, without a final norm.

    Attributes:
        modalities: in the order of their tokens.
        grid: (rows, columns) of patches, of all modalities.
        size: width, depth, heads.
        num_global: G, learned tokens at the end.
        compute: dtype, scan, remat, attention.
        eps: of every LayerNorm.
    """

    modalities: tuple[Modality, ...]
    grid: tuple[int, int]
    size: Size
    num_global: int
    compute: Compute
    eps: float

    def setup(self):
        dim, dtype, cut = self.size.dim, self.compute.dtype, initializers.token
        names = [m.name for m in self.modalities]
        self.proj = {name: Dense(dim, dtype=dtype, name=f"{name}_proj") for name in names}
        self.class_emb = {
            m.name: self.param(f"{m.name}_classes", cut, (m.classes, m.class_dim))
            for m in self.modalities
            if m.classes
        }
        self.global_tokens = self.param("global_tokens", cut, (self.num_global, dim))
        self.stack = self.compute.stack(self.size, eps=self.eps)
        self.blocks = self.param("blocks", self.stack.init, dim)

    def tokens(self, patches: Mapping[str, Array]) -> Array:
        """{modality: float[B, N, P] or labels int[B, N, P]}, some or all -> [B, T * N, D], with
        positions, which are the same for all modalities."""
        table = jnp.asarray(sincos_2d(self.grid, self.size.dim, first="row"))
        parts = [self._embed(m, patches[m.name]) for m in self.modalities if m.name in patches]
        parts = [constrain_batch(part + table.astype(part.dtype)) for part in parts]
        return jnp.concatenate(parts, axis=1)

    def __call__(self, tokens: Array) -> Array:
        """Tokens [B, K, D] -> [B, K + G, D], the global ones at the end."""
        last = self.global_tokens.astype(tokens.dtype)
        last = jnp.broadcast_to(last, (len(tokens), *last.shape))
        x = constrain_batch(jnp.concatenate([tokens, constrain_batch(last)], axis=1))
        return constrain_batch(self.stack(self.blocks, x)[0])

    def _embed(self, modality: Modality, patches: Array) -> Array:
        if modality.classes:
            # A product: the gradient of a lookup would be a scatter.
            chosen = jax.nn.one_hot(patches, modality.classes, dtype=self.compute.dtype)
            table = self.class_emb[modality.name].astype(self.compute.dtype)
            patches = (chosen @ table).reshape(*patches.shape[:2], -1)
        return self.proj[modality.name](patches)


class TaskDecoder(nn.Module):
    """Predicts one task: queries of its modality look at all that was encoded, then two blocks.

    Attributes:
        inputs: names of all modalities, whose tokens it tells apart.
        own: the modality it predicts.
        grid: (rows, columns) of patches.
        outputs: numbers for a patch.
        size: width, depth after the cross-attention, heads.
        compute: dtype, scan, remat, attention.
        eps: of every LayerNorm.
    """

    inputs: tuple[str, ...]
    own: str
    grid: tuple[int, int]
    outputs: int
    size: Size
    compute: Compute
    eps: float

    def setup(self):
        size, compute = self.size, self.compute
        self.embed = Dense(size.dim, dtype=compute.dtype)
        self.mask_token = self.param("mask_token", nn.initializers.zeros, (size.dim,))
        cut, shape = initializers.token, (size.dim,)
        self.kinds = {name: self.param(f"task_{name}", cut, shape) for name in self.inputs}
        self.cross = CrossBlock(
            size.heads,
            size.mlp_hidden,
            own_norms=False,
            with_queries=False,
            from_normed=False,
            residual=False,
            eps=self.eps,
            dtype=compute.dtype,
            implementation=compute.attention,
        )
        self.stack = compute.stack(size, eps=self.eps)
        self.blocks = self.param("blocks", self.stack.init, size.dim)
        self.out = Dense(self.outputs, dtype=compute.dtype)

    def __call__(
        self, latent: Array, split: TokenSplit, inverse: Array, present: Sequence[str]
    ) -> Array:
        """latent [B, K + G, D] of the visible and the global tokens -> float32[B, N, outputs].

        Args:
            latent: in the order of `split`.
            split: of the tokens of the modalities that are present; ids int[B, T N], cuts (K,).
            inverse: of the split, int[B, T N].
            present: their names, in order. If the own one is not among them, all its queries are
                mask tokens.
        """
        x, num = constrain_batch(self.embed(latent)), self.grid[0] * self.grid[1]
        table = jnp.asarray(sincos_2d(self.grid, self.size.dim, first="row"))
        places = jnp.concatenate([table + self.kinds[name] for name in present])
        shown = x[:, : split.num_visible] + _rows(places, split.visible_ids, x.dtype)
        context = jnp.concatenate([shown, x[:, split.num_visible :]], axis=1)
        if self.own in present:
            start = list(present).index(self.own) * num
            hidden = self.mask_token + _rows(places, split.hidden_ids, jnp.float32)
            every = jnp.concatenate([shown, hidden.astype(x.dtype)], axis=1)
            queries = masking.tokens.gather(every, inverse[:, start : start + num])
        else:
            queries = (table + self.mask_token + self.kinds[self.own]).astype(x.dtype)
            queries = jnp.broadcast_to(queries, (len(x), *queries.shape))
        x, _ = self.cross(constrain_batch(queries), None, None, constrain_batch(context))
        x, _ = self.stack(self.blocks, x)
        return constrain_batch(self.out(x)).astype(jnp.float32)


def _rows(table: Array, ids: Array, dtype) -> Array:
    return constrain_batch(jnp.take(table, ids, axis=0).astype(dtype))


class MultiModalAutoencoder(nn.Module):
    """Encoder and decoders.

    Attributes:
        modalities: in the order of their tokens.
        tasks: {task: name of the modality it predicts}.
        grid: (rows, columns) of patches.
        encoder_size, decoder_size: width, depth, heads.
        num_global: learned tokens at the end.
        compute: dtype, scan, remat, attention.
        eps: of every LayerNorm.
    """

    modalities: tuple[Modality, ...]
    tasks: tuple[tuple[str, str], ...]
    grid: tuple[int, int]
    encoder_size: Size
    decoder_size: Size
    num_global: int
    compute: Compute
    eps: float = 1e-6

    def setup(self):
        sizes = (self.encoder_size, self.num_global, self.compute, self.eps)
        self.encoder = MultiModalEncoder(self.modalities, self.grid, *sizes)
        names, outputs = self.names, {m.name: m.outputs for m in self.modalities}
        options = (self.decoder_size, self.compute, self.eps)
        self.decoders = {
            task: TaskDecoder(names, own, self.grid, outputs[own], *options, name=f"decoder_{task}")
            for task, own in self.tasks
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Of the modalities."""
        return tuple(m.name for m in self.modalities)

    def __call__(self, patches: Mapping[str, Array], split: TokenSplit) -> dict[str, Array]:
        """{modality: patches [B, N, P]} -> {task: prediction float32[B, N, outputs]}."""
        return self.decode(self.encode(patches, split), split)

    def visible(self, patches: Mapping[str, Array], split: TokenSplit | None = None) -> Array:
        """What the encoder gets, but for the global tokens: [B, K, D] in the order of `split`, or
        [B, T N, D], all tokens of the modalities that are there."""
        tokens = self.encoder.tokens(patches)
        return tokens if split is None else masking.tokens.gather(tokens, split.visible_ids)

    def encode(self, patches: Mapping[str, Array], split: TokenSplit | None = None) -> Array:
        """[B, K + G, D], the global tokens at the end; arguments as of `visible`."""
        return self.encoder(self.visible(patches, split))

    def decode(
        self, latent: Array, split: TokenSplit, present: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """{task: prediction float32[B, N, outputs]}; arguments as of `TaskDecoder`."""
        inverse = split.inverse()
        options = (latent, split, inverse, present or self.names)
        return {task: decoder(*options) for task, decoder in self.decoders.items()}


def forward_flops(model: MultiModalAutoencoder, num_visible: int) -> int:
    """Matmul FLOPs of the loss for one example."""
    num, encoder, decoder = int(np.prod(model.grid)), model.encoder_size, model.decoder_size
    keys, total = num_visible + model.num_global, 0
    inputs = {m.name: m.values * max(m.class_dim, 1) for m in model.modalities}
    outputs = {m.name: m.outputs for m in model.modalities}
    total += sum(flops.linear(num, values, encoder.dim) for values in inputs.values())
    total += flops.transformer(keys, encoder)
    one = flops.cross_transformer(num, keys, dataclasses.replace(decoder, depth=1))
    shared = flops.linear(keys, encoder.dim, decoder.dim) + one + flops.transformer(num, decoder)
    heads = (flops.linear(num, decoder.dim, outputs[own]) for _, own in model.tasks)
    return total + len(model.tasks) * shared + sum(heads)
