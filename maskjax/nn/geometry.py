"""The sizes and options of a ViT that its weights do not tell, as plain numbers and words."""

import dataclasses
import numbers
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from maskjax.errors import UserError
from maskjax.nn.described import Described

# Position tables of `nn.position.sincos_2d` -> the axis in the first half of their channels.
SINCOS = {"sincos": "column", "sincos_rows": "row"}
CHOICES = {
    "position": ("sincos", "learned", "sinusoid", "none", "sincos_rows"),
    "pool": ("none", "cls", "gap"),
    "relative": ("none", "layer", "shared"),
    "qkv_bias": ("all", "query_value", "none"),
    "activation": ("gelu", "quick_gelu"),
    "mlp": ("plain", "swiglu"),
}


@dataclass(frozen=True)
class Geometry(Described):
    """Shape of a ViT encoder, with or without an MAE decoder or a classifier.

    Nothing is parsed from tensor names or guessed from ranks: what the names and shapes of a torch
    file do not tell (patch size, heads, kind of position table) stands here, travels in the
    metadata of the files we write, and is compared when they are read. The defaults are MAE's.

    Attributes:
        image_size: (height, width) in pixels; both are multiples of ``patch_size``.
        patch_size: Side of a square patch, in pixels.
        channels: Image channels.
        dim, depth, heads, mlp_hidden: Encoder width, number of blocks, attention heads, MLP width.
        decoder_dim: Decoder width; 0 means that there is no decoder.
        decoder_depth, decoder_heads, decoder_mlp_hidden: As above, for the decoder.
        position: "sincos" (fixed table, no parameter), "sincos_rows" (the same with the row in
            the first half: CAE, mmpretrain), "learned" (encoder/pos_embed), "sinusoid" (VideoMAE's
            fixed table over the flattened index) or "none". The decoder's table is fixed: the
            encoder's kind where that is "sincos_rows", else "sincos".
        cls: Whether the encoder has a class token.
        pool: What a classifier reads: "none" (no classifier), "cls" (class token after
            encoder/norm) or "gap" (mean of the patch tokens, then fc_norm; no encoder/norm).
        num_classes: Outputs of the classifier head; 0 means no head.
        frames, tubelet: Frames of a clip and of one token; 0 and 1 for images.
        dist_token: DeiT's second token, after the class token.
        registers: Tokens without position after those (DINOv2).
        mask_token: Whether the encoder has a token for hidden patches (SimMIM, BEiT, DINOv2).
        prefix_positions: Whether a learned table has rows for class and distillation token.
        relative: Relative position bias: "none", a table for each "layer" (BEiT), or one "shared".
        patch_bias: Whether the patch projection has a bias (CLIP: no).
        pre_norm: LayerNorm before the first block (CLIP).
        qkv_bias: "all", "query_value" (BEiT's lineage: the key has none) or "none".
        layer_scale: A factor for each channel of each branch.
        activation: Of the MLP: the exact "gelu", or "quick_gelu", x sigmoid(1.702 x).
        mlp: "plain", or "swiglu" (silu(gate) * fc1).
        rotary: Base of rotary positions in every attention (CroCo v2: 100); 0 = none.
        pixel_head: Whether a linear layer predicts the pixels of each patch (SimMIM's decoder).
        final_norm: LayerNorm after the last block, where no pooling replaces it.
        projection: Width of a projection of the class token without bias (CLIP); 0 = none.
        eps: Of every LayerNorm.

    Raises:
        UserError: A value is impossible; the message names the field.
    """

    image_size: tuple[int, int]
    patch_size: int
    channels: int
    dim: int
    depth: int
    heads: int
    mlp_hidden: int
    decoder_dim: int = 0
    decoder_depth: int = 0
    decoder_heads: int = 0
    decoder_mlp_hidden: int = 0
    position: str = "sincos"
    cls: bool = True
    pool: str = "none"
    num_classes: int = 0
    frames: int = 0
    tubelet: int = 1
    dist_token: bool = False
    registers: int = 0
    mask_token: bool = False
    prefix_positions: bool = True
    relative: str = "none"
    patch_bias: bool = True
    pre_norm: bool = False
    qkv_bias: str = "all"
    layer_scale: bool = False
    activation: str = "gelu"
    mlp: str = "plain"
    rotary: int = 0
    pixel_head: bool = False
    final_norm: bool = True
    projection: int = 0
    eps: float = 1e-6

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", tuple(int(size) for size in self.image_size))
        _check_sizes(self)
        for field, choices in CHOICES.items():
            if getattr(self, field) not in choices:
                found = getattr(self, field)
                raise UserError(f"geometry: {field}={found!r}; choose one of {', '.join(choices)}.")
        for broken, sentence in _rules(self):
            if broken:
                raise UserError(f"geometry: {sentence}")

    @property
    def grid(self) -> tuple[int, int]:
        """Patches as (rows, columns)."""
        height, width = self.image_size
        return height // self.patch_size, width // self.patch_size

    @property
    def num_patches(self) -> int:
        """Patch tokens of an image or clip."""
        return self.grid[0] * self.grid[1] * max(1, self.frames // self.tubelet)

    @property
    def patch_values(self) -> int:
        """Numbers in a raw patch, or in a raw tube of a clip."""
        return self.patch_size**2 * self.channels * (self.tubelet if self.frames else 1)

    @property
    def prefix_tokens(self) -> int:
        """Tokens in front of the patches."""
        return self.cls + self.dist_token + self.registers

    @property
    def prefix_rows(self) -> int:
        """Rows of the position table in front of those of the patches."""
        return self.cls + self.dist_token if self.prefix_positions else 0

    @property
    def relative_rows(self) -> int:
        """Rows of a relative bias table: one an offset, and 3 for pairs with the class token."""
        rows, columns = self.grid
        return (2 * rows - 1) * (2 * columns - 1) + (3 if self.cls else 0)

    @property
    def has_norm(self) -> bool:
        """Whether there is a norm of all tokens after the last block."""
        return self.final_norm and self.pool != "gap"

    @property
    def has_decoder(self) -> bool:
        """Whether the tree has a decoder."""
        return self.decoder_dim > 0

    def encoder_only(self) -> Self:
        """The same model without its decoder."""
        none = {"decoder_dim": 0, "decoder_depth": 0, "decoder_heads": 0, "decoder_mlp_hidden": 0}
        return dataclasses.replace(self, pixel_head=False, **none)

    def unusual(self, allowed: Iterable[str] = ()) -> tuple[str, ...]:
        """Options, but for the ``allowed``, that differ from the defaults, as "name=value"."""
        options = (f for f in dataclasses.fields(self) if f.name in OPTIONS)
        return tuple(
            f"{f.name}={getattr(self, f.name)!r}"
            for f in options
            if f.name not in allowed and getattr(self, f.name) != f.default
        )


# Fields that change which parameters there are or what is computed with them.
OPTIONS = (
    "frames",
    "dist_token",
    "registers",
    "mask_token",
    "prefix_positions",
    "relative",
    "patch_bias",
    "pre_norm",
    "qkv_bias",
    "layer_scale",
    "activation",
    "mlp",
    "rotary",
    "pixel_head",
    "final_norm",
    "projection",
)


def _rules(g: Geometry) -> tuple[tuple[bool, str], ...]:
    """What must not be, and the sentence that says what to do."""
    first = g.dist_token or g.registers > 0
    return (
        (g.pool == "cls" and not g.cls, "pool='cls' needs cls=True; use pool='gap' without."),
        (
            g.pool == "none" and g.num_classes > 0,
            "num_classes is set but pool='none'; set pool to cls or gap.",
        ),
        (g.dist_token and not g.cls, "dist_token=True needs cls=True."),
        (g.projection > 0 and not g.cls, "projection projects the class token; set cls=True."),
        (
            g.relative != "none" and (first or g.frames > 0),
            "relative bias tables are for images, with no token but cls in front.",
        ),
        (
            g.position in SINCOS and (first or g.frames > 0),
            f"position={g.position!r} is for images, with no token but cls in front.",
        ),
        (
            g.pixel_head and (g.has_decoder or g.frames > 0),
            "pixel_head is SimMIM's decoder, for images; leave out the other one.",
        ),
        (
            g.rotary != 0 and (g.prefix_tokens > 0 or g.frames > 0 or g.position != "none"),
            "rotary is for images, with no token in front and position='none'.",
        ),
        (
            g.rotary < 0 or (g.rotary > 0 and g.dim // g.heads % 4 > 0),
            f"rotary={g.rotary}; it must be positive, with heads of a multiple of 4 channels.",
        ),
        (g.frames == 0 and g.tubelet != 1, "tubelet is set but frames=0."),
        (
            g.tubelet < 1 or g.frames % max(1, g.tubelet) > 0,
            f"frames={g.frames} is no multiple of tubelet={g.tubelet}.",
        ),
        (not 0 < g.eps < 1, f"eps={g.eps}; it must be a small positive number."),
    )


def _check_sizes(geometry: Geometry) -> None:
    for name, value in vars(geometry).items():
        if name not in ("image_size", "eps", *CHOICES) and not isinstance(value, numbers.Integral):
            raise UserError(
                f"geometry: {name}={value!r} is no whole number, which weights formats need."
            )
    for name in ("patch_size", "channels", "dim", "depth", "heads", "mlp_hidden"):
        if getattr(geometry, name) < 1:
            raise UserError(f"geometry: {name}={getattr(geometry, name)}; it must be at least 1.")
    if any(size < 1 or size % geometry.patch_size for size in geometry.image_size):
        size, patch = geometry.image_size, geometry.patch_size
        raise UserError(f"geometry: image_size={size} is no multiple of patch_size={patch}.")
    _check_width("", geometry.dim, geometry.heads, geometry.position in SINCOS)
    if not geometry.has_decoder:
        return
    for name in ("decoder_depth", "decoder_heads", "decoder_mlp_hidden"):
        if getattr(geometry, name) < 1:
            raise UserError(
                f"geometry: {name}={getattr(geometry, name)}; a decoder needs 1 or more."
            )
    _check_width("decoder_", geometry.decoder_dim, geometry.decoder_heads, True)


def _check_width(prefix: str, dim: int, heads: int, sincos: bool) -> None:
    if dim % heads:
        raise UserError(f"geometry: {prefix}dim={dim} is no multiple of {prefix}heads={heads}.")
    if sincos and dim % 4:
        raise UserError(
            f"geometry: {prefix}dim={dim}; a sin-cos position table needs a multiple of 4."
        )
