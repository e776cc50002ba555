"""One ViT for the weights that others publish: DeiT, DINO, DINOv2, CLIP, MAE, BEiT, VideoMAE.

Its options are those of `Geometry`. Methods use it as a frozen teacher.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from maskjax.masking.patches import tubify
from maskjax.nn import initializers
from maskjax.nn.dense import Dense
from maskjax.nn.geometry import SINCOS, Geometry
from maskjax.nn.norm import LayerNorm
from maskjax.nn.position import sincos_2d, sinusoid_1d
from maskjax.nn.relative import relative_bias
from maskjax.nn.rotary import grid_positions, rotary_table
from maskjax.nn.sharding import constrain_batch
from maskjax.nn.stack import Bias, Probe, Stack
from maskjax.nn.variant_block import Variant, VariantBlock, shared_table
from maskjax.nn.vit import Compute


def to_patches(images: Array, geometry: Geometry) -> Array:
    """Images [B, H, W, C] -> patches [B, N, P]; clips [B, T, H, W, C] -> tubes, raster order.

    Values of a tube are listed by (frame, row, column, channel), channel fastest.
    """
    side = geometry.patch_size
    clips = images if geometry.frames else images[:, None]
    return tubify(clips, (geometry.tubelet, side, side))


class VariantEncoder(nn.Module):
    """Tokens of any patches of an image or clip, through all blocks.

    Attributes:
        geometry: sizes and options.
        compute: dtype, scan, remat, attention.
        drop_path: rate of the last block.
        layer_scale: where the channel factors start, if the geometry has them.
        token_init, patch_init: initial tokens and patch projection; None = Xavier-uniform.
    """

    geometry: Geometry
    compute: Compute = Compute()
    drop_path: float = 0.0
    layer_scale: float = 1.0
    token_init: initializers.Initializer = initializers.token
    patch_init: initializers.Initializer | None = None

    def setup(self):
        g, dtype = self.geometry, self.compute.dtype
        options = {"use_bias": g.patch_bias, "dtype": dtype, "kernel_init": self.patch_init}
        self.patch_embed = Dense(g.dim, **options, first=True)
        names = ("cls_token", "dist_token", "mask_token")
        for name, there in zip(names, (g.cls, g.dist_token, g.mask_token), strict=True):
            if there:
                setattr(self, name, self.param(name, self.token_init, (g.dim,)))
        if g.registers:
            shape = (g.registers, g.dim)
            self.register_tokens = self.param("register_tokens", self.token_init, shape)
        if g.position == "learned":
            shape = (g.prefix_rows + g.num_patches, g.dim)
            self.pos_embed = self.param("pos_embed", self.token_init, shape)
        if g.pre_norm:
            self.pre_norm = LayerNorm(g.eps, dtype)
        self.blocks = self.param("blocks", self._init_blocks)
        if g.relative == "shared":
            shape = (g.relative_rows, g.heads)
            self.relative = self.param("relative", nn.initializers.zeros, shape)
        if g.has_norm:
            self.norm = LayerNorm(g.eps)

    def _init_blocks(self, key: Array) -> dict:
        """The stack starts from an example of two tokens, which fits no table: those come after."""
        g = self.geometry
        plain = self._stack(dataclasses.replace(g, relative="none")).init(key, g.dim)
        if g.relative != "layer":
            return plain
        return shared_table(plain, jnp.zeros((g.relative_rows, g.heads)), g.depth)

    def _stack(self, g: Geometry) -> Stack:
        compute = self.compute
        # A shared table gives one bias for all layers: made once, outside of the stack.
        g = dataclasses.replace(g, relative="none") if g.relative == "shared" else g
        options = (g.eps, compute.dtype, compute.attention)
        variant = Variant.of(g, self.layer_scale)
        block = VariantBlock(g.heads, g.mlp_hidden, variant, *options, parent=None)
        return Stack(block, g.depth, compute.scan, compute.remat, self.drop_path)

    def __call__(
        self,
        patches: Array,
        ids: Array | None = None,
        *,
        hidden: Array | None = None,
        taps: Sequence[str] = (),
        drop_noise: Array | None = None,
        bias: Bias | None = None,
        probes: Mapping[str, Probe] | None = None,
    ) -> tuple[Array, dict[str, Array]]:
        """Raw patches [B, K, P] -> tokens [B, E + K, D], E tokens in front, and {tap: activation}.

        Args:
            patches: K of the image's patches, any order.
            ids: int[B, K], which patch of the grid each one is; None = all, in raster order. With
                relative bias tables only None works.
            hidden: bool[B, K], True = the mask token stands in for this patch.
            taps: of the block stack (see `Stack`), or "input" for the tokens it gets.
            drop_noise: float32[B, depth, 2] for drop-path; None = none.
            bias: of the block stack, over all E + K tokens; relative bias tables come on top.
            probes: of the block stack.

        Raises:
            ValueError: for ids with relative bias, or hidden without a mask token.
        """
        g = self.geometry
        if ids is not None and g.relative != "none":
            raise ValueError("relative bias tables need all patches in raster order")
        x = self._tokens(self._embed(patches, hidden), ids)
        inputs = x = self.pre_norm(x) if g.pre_norm else x
        inner = tuple(tap for tap in taps if tap != "input")
        options = {"drop_noise": drop_noise, "bias": self._with_shared(bias), "probes": probes}
        context = (self._rotary(ids),) if g.rotary else ()
        x, seen = self._stack(g)(self.blocks, x, taps=inner, context=context, **options)
        if "input" in taps:
            seen["input"] = inputs
        return constrain_batch(self.norm(x) if g.has_norm else x), seen

    def _rotary(self, ids: Array | None) -> Array:
        """Angles of the tokens, [N, 2, d] or [B, K, 2, d]."""
        g = self.geometry
        table = jnp.asarray(rotary_table(grid_positions(g.grid), g.dim // g.heads, g.rotary))
        return table if ids is None else jnp.take(table, ids, axis=0)

    def _with_shared(self, bias: Bias | None) -> Bias | None:
        """The bias of the shared table, if there is one, and the given one."""
        g = self.geometry
        if g.relative != "shared":
            return bias
        shared = relative_bias(self.relative, g.grid, cls=g.cls)
        if callable(bias):
            return lambda layer: shared + bias(layer)
        return shared if bias is None else shared + bias

    def embed(self, patches: Array) -> Array:
        """Raw patches [B, K, P] -> tokens [B, K, D], before mask tokens and positions."""
        return constrain_batch(self.patch_embed(patches))

    def _embed(self, patches: Array, hidden: Array | None) -> Array:
        x = self.embed(patches)
        if hidden is None:
            return x
        if not self.geometry.mask_token:
            raise ValueError("hidden patches need a mask token; this encoder has none")
        return jnp.where(hidden[..., None], self.mask_token.astype(x.dtype), x)

    def _tokens(self, x: Array, ids: Array | None) -> Array:
        """Adds positions, puts the class, distillation and register tokens in front."""
        g = self.geometry
        table = self._table().astype(x.dtype)
        if g.position != "none":
            cells = table[g.prefix_rows :]
            x = x + (cells if ids is None else jnp.take(cells, ids, axis=0))
        first = [self.cls_token] if g.cls else []
        first += [self.dist_token] if g.dist_token else []
        rows = jnp.stack(first).astype(x.dtype) if first else jnp.zeros((0, g.dim), x.dtype)
        if g.position != "none" and g.prefix_rows:
            rows = rows + table[: g.prefix_rows]
        if g.registers:
            rows = jnp.concatenate([rows, self.register_tokens.astype(x.dtype)])
        rows = constrain_batch(jnp.broadcast_to(rows, (x.shape[0], *rows.shape)))
        return constrain_batch(jnp.concatenate([rows, x], axis=1))

    def _table(self) -> Array:
        """[prefix rows + N, D]."""
        g = self.geometry
        if g.position == "learned":
            return self.pos_embed
        if g.position in SINCOS:
            first = SINCOS[g.position]
            return jnp.asarray(sincos_2d(g.grid, g.dim, cls=g.prefix_rows > 0, first=first))
        if g.position == "sinusoid":
            cells = sinusoid_1d(g.num_patches, g.dim)
            return jnp.pad(jnp.asarray(cells), ((g.prefix_rows, 0), (0, 0)))
        return jnp.zeros((g.prefix_rows, g.dim))


class TeacherViT(nn.Module):
    """Encoder and what reads its tokens: pooled norm, classifier, projection.

    Attributes:
        geometry: sizes and options; a decoder in it is left out.
        compute: dtype, scan, remat, attention.
    """

    geometry: Geometry
    compute: Compute = Compute()

    @nn.compact
    def __call__(
        self,
        patches: Array,
        ids: Array | None = None,
        *,
        hidden: Array | None = None,
        taps: Sequence[str] = (),
        probes: Mapping[str, Probe] | None = None,
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Raw patches [B, K, P], standardised -> outputs and {tap: activation}.

        The arguments are those of `VariantEncoder`: taps "block", "query", "key", "value",
        "attention" for all layers, or "attention/-1" for the last one.

        Returns:
            float32 {"tokens": [B, K, D] of the patches, after the final norm if there is one;
            "mean": [B, D], of those; "cls": [B, D]; "features": [B, D], what a classifier reads;
            "logits": [B, classes]; "projection": [B, P] of cls; "projected": [B, K, P], the same
            layer on the patches}, the last five where the model has them.
        """
        g = self.geometry
        encoder = VariantEncoder(g, self.compute, name="encoder")
        x, seen = encoder(patches, ids, hidden=hidden, taps=taps, probes=probes)
        x = x.astype(jnp.float32)
        tokens = x[:, g.prefix_tokens :]
        out = {"tokens": tokens, "mean": tokens.mean(1)}
        if g.cls:
            out["cls"] = x[:, 0]
        if g.pool == "gap":
            out["features"] = LayerNorm(g.eps, name="fc_norm")(out["mean"])
        elif g.pool == "cls":
            out["features"] = out["cls"]
        if g.num_classes:
            out["logits"] = Dense(g.num_classes, name="head")(out["features"])
        if g.projection:
            projection = Dense(g.projection, use_bias=False, name="projection")
            out["projection"], out["projected"] = projection(out["cls"]), projection(tokens)
        return out, seen
