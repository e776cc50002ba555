"""The sizes of a model that a weights file needs to be understood, as plain numbers and words."""

import dataclasses
import json
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from maskjax.errors import UserError

PREFIX = "geometry."
CHOICES = {"position": ("sincos", "learned"), "pool": ("none", "cls", "gap")}


@dataclass(frozen=True)
class Geometry:
    """Shape of a ViT encoder, with or without an MAE decoder or a classifier.

    Nothing in interop is parsed from tensor names or guessed from ranks: what the names and shapes
    of a torch file do not tell (patch size, heads, kind of position table) stands here, travels in
    the metadata of the files we write, and is compared when they are read.

    Attributes:
        image_size: (height, width) in pixels; both are multiples of ``patch_size``.
        patch_size: Side of a square patch, in pixels.
        channels: Image channels.
        dim, depth, heads, mlp_hidden: Encoder width, number of blocks, attention heads, MLP width.
        decoder_dim: Decoder width; 0 means that there is no decoder.
        decoder_depth, decoder_heads, decoder_mlp_hidden: As above, for the decoder.
        position: "sincos" (fixed table, no parameter) or "learned" (encoder/pos_embed). The
            decoder's table is always the fixed one.
        cls: Whether the encoder has a class token.
        pool: What a classifier reads: "none" (no classifier), "cls" (class token after
            encoder/norm) or "gap" (mean of the patch tokens, then fc_norm; no encoder/norm).
        num_classes: Outputs of the classifier head; 0 means no head.

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

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", tuple(int(size) for size in self.image_size))
        _check_sizes(self)
        for field, choices in CHOICES.items():
            if getattr(self, field) not in choices:
                found = getattr(self, field)
                raise UserError(f"geometry: {field}={found!r}; choose one of {', '.join(choices)}.")
        if self.pool == "cls" and not self.cls:
            raise UserError(
                "geometry: pool='cls' needs cls=True; use pool='gap' without a cls token."
            )
        if self.pool == "none" and self.num_classes:
            raise UserError("geometry: num_classes is set but pool='none'; set pool to cls or gap.")

    @property
    def grid(self) -> tuple[int, int]:
        """Patches as (rows, columns)."""
        height, width = self.image_size
        return height // self.patch_size, width // self.patch_size

    @property
    def has_decoder(self) -> bool:
        """Whether the tree has a decoder."""
        return self.decoder_dim > 0

    def encoder_only(self) -> Self:
        """The same model without its decoder."""
        return dataclasses.replace(
            self, decoder_dim=0, decoder_depth=0, decoder_heads=0, decoder_mlp_hidden=0
        )

    def to_metadata(self) -> dict[str, str]:
        """As strings for a file header: ``{"geometry.dim": "768", ...}``, each value in JSON."""
        return {
            PREFIX + name: json.dumps(value) for name, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Self | None:
        """Undo :meth:`to_metadata`; None when the metadata holds no geometry.

        Fields that a newer maskjax wrote and this one does not know are ignored.

        Raises:
            UserError: A field is missing or is not JSON.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        found = {k.removeprefix(PREFIX): v for k, v in metadata.items() if k.startswith(PREFIX)}
        if not found:
            return None
        try:
            return cls(**{name: json.loads(v) for name, v in found.items() if name in known})
        except (TypeError, json.JSONDecodeError) as error:
            raise UserError(
                f"the geometry in the file's metadata cannot be read: {error}"
            ) from None

    def differences(self, other: "Geometry", fields: Iterable[str]) -> tuple[str, ...]:
        """Which of ``fields`` differ, as "name: mine, other's"."""
        values = ((name, getattr(self, name), getattr(other, name)) for name in fields)
        return tuple(f"{name}: {mine}, {theirs}" for name, mine, theirs in values if mine != theirs)


def _check_sizes(geometry: Geometry) -> None:
    for name, value in vars(geometry).items():
        if name not in ("image_size", *CHOICES) and not isinstance(value, numbers.Integral):
            raise UserError(
                f"geometry: {name}={value!r} is no whole number, which weights formats need."
            )
    for name in ("patch_size", "channels", "dim", "depth", "heads", "mlp_hidden"):
        if getattr(geometry, name) < 1:
            raise UserError(f"geometry: {name}={getattr(geometry, name)}; it must be at least 1.")
    if any(size < 1 or size % geometry.patch_size for size in geometry.image_size):
        size, patch = geometry.image_size, geometry.patch_size
        raise UserError(f"geometry: image_size={size} is no multiple of patch_size={patch}.")
    _check_width("", geometry.dim, geometry.heads, geometry.position == "sincos")
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
