"""The parity report of an export: read back, run here, and run in PyTorch where that is there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from maskjax.interop import backbones
from maskjax.interop.export import ExportReport
from maskjax.interop.load import import_weights
from maskjax.interop.paths import flatten
from maskjax.interop.shapes import param_shapes
from maskjax.interop.torch_models import Activations, UnavailableError, activations
from maskjax.nn.families import AnyGeometry
from maskjax.nn.geometry import Geometry

BATCH, SEED, TOLERANCE = 2, 0, 1e-4


@dataclass(frozen=True)
class Row:
    """One activation: the largest absolute difference, and the spread it is measured by."""

    name: str
    error: float
    spread: float

    @property
    def ok(self) -> bool:
        """Within 1e-4 of the spread."""
        return self.error <= TOLERANCE * self.spread + 1e-7


@dataclass(frozen=True)
class ParityReport:
    """How an exported file compares with the weights it was made of.

    Attributes:
        reread: Parameters that are not the same bits after reading the file back.
        rows: Activations here beside those in PyTorch.
        library: Name of the library that ran the file, or why none did.
        notes: What of the file was not run there, a sentence each.
    """

    reread: tuple[str, ...]
    rows: tuple[Row, ...]
    library: str
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing that was compared differs."""
        return not self.reread and all(row.ok for row in self.rows)

    def __str__(self) -> str:
        same = "every parameter is the same, bit for bit"
        lines = [f"read back: {', '.join(self.reread) + ' differ' if self.reread else same}"]
        if not self.rows:
            return "\n".join([*lines, f"not run in PyTorch: {self.library}"])
        lines.append(f"one batch here and in {self.library}, largest absolute difference:")
        width = max(len(row.name) for row in self.rows)
        lines += (
            f"  {row.name:<{width}}  {row.error:.1e}  of {row.spread:.2g}"
            f"  {'ok' if row.ok else 'DIFFERS'}"
            for row in self.rows
        )
        return "\n".join([*lines, *(f"not run in PyTorch: {note}" for note in self.notes)])


def check_export(
    params: Mapping[str, Any], report: ExportReport, settings: Mapping[str, Any]
) -> ParityReport:
    """Reads an export back, and runs one fixed batch of noise through it, here and in PyTorch.

    Args:
        params: What was exported.
        report: Of the export.
        settings: As of the export.

    Raises:
        UserError: The file cannot be read back.
    """
    again, _ = import_weights(report.path)
    written = flatten(again)
    before = {path: np.asarray(leaf) for path, leaf in flatten(params).items()}
    wanted = param_shapes(report.geometry)
    reread = tuple(path for path in wanted if not np.array_equal(written[path], before[path]))
    images = _batch(report.geometry)
    try:
        theirs = activations(report.layout, report.geometry, report.path, dict(settings), images)
    except UnavailableError as error:
        return ParityReport(reread, (), str(error))
    ours = own_activations(again, report.geometry, images)
    library = "transformers" if report.layout.startswith("hf") else "timm"
    rows = tuple(_row(name, ours.get(name), theirs[name]) for name in theirs)
    return ParityReport(reread, rows, library, _not_run(report))


def _not_run(report: ExportReport) -> tuple[str, ...]:
    if report.layout != "mae" or not report.geometry.has_decoder:
        return ()
    return (
        "the decoder, which timm does not have; it was read back only (format hf runs it in "
        "transformers)",
    )


def _batch(geometry: AnyGeometry) -> np.ndarray:
    clip = isinstance(geometry, Geometry) and geometry.frames > 0
    frames = (geometry.frames,) if clip else ()
    shape = (BATCH, *frames, geometry.channels, *geometry.image_size)
    return np.random.default_rng(SEED).normal(size=shape).astype(np.float32)


def _row(name: str, ours: np.ndarray | None, theirs: np.ndarray) -> Row:
    if ours is None or ours.shape != theirs.shape:
        return Row(f"{name} {getattr(ours, 'shape', '')} {theirs.shape}", float("inf"), 0.0)
    error = np.abs(ours - theirs).max()
    return Row(name, float(error), float(max(theirs.std(), np.abs(theirs).max())))


def own_activations(params: Mapping[str, Any], g: AnyGeometry, images: np.ndarray) -> Activations:
    """What maskjax computes: names as in `torch_models.activations`.

    Args:
        params: Tree of the geometry.
        g: The geometry.
        images: float32[B, (T,) C, H, W], standardised.
    """
    import jax
    import jax.numpy as jnp

    if not isinstance(g, Geometry):
        return _backbone(params, g, images)
    from maskjax.nn.teacher_vit import TeacherViT, to_patches

    encoder = {name: tree for name, tree in params.items() if name != "decoder"}
    patches = to_patches(jnp.moveaxis(jnp.asarray(images), -3, -1), g)
    apply = lambda tree, x: TeacherViT(g).apply({"params": tree}, x, taps=("block",))  # noqa: E731
    out, seen = jax.jit(apply)(encoder, patches)
    found = {f"block {i}": block for i, block in enumerate(seen["block"])}
    names = ("cls", "tokens", "logits", "projection")
    found |= {name: out[name] for name in names if name in out}
    if g.has_decoder and g.cls:
        latent = jnp.concatenate([out["cls"][:, None], out["tokens"]], 1)
        found |= _decoder(params["decoder"], g, latent)
    return {name: np.asarray(value) for name, value in found.items()}


def _backbone(params: Mapping[str, Any], g: AnyGeometry, images: np.ndarray) -> Activations:
    """Maps are shown with channels first, as PyTorch has them."""
    import jax

    apply = jax.jit(lambda tree, x: backbones.run(g, tree, x))
    out, stages = apply(params, np.moveaxis(images, -3, -1))
    found = {name: np.asarray(x) for name, x in stages.items()}
    first = {name: np.moveaxis(x, -1, 1) if x.ndim == 4 else x for name, x in found.items()}
    return first | {name: np.asarray(value) for name, value in out.items()}


def _decoder(params: Mapping[str, Any], g: Geometry, latent: Any) -> dict[str, Any]:
    """MAE's decoder with no token hidden."""
    import jax
    import jax.numpy as jnp

    from maskjax.masking import TokenSplit
    from maskjax.nn.decoder import Decoder
    from maskjax.nn.vit import Size

    ratio = g.decoder_mlp_hidden / g.decoder_dim
    size = Size(g.decoder_dim, g.decoder_depth, g.decoder_heads, ratio)
    position = "sincos_rows" if g.position == "sincos_rows" else "sincos"
    model = Decoder(size, g.grid, g.patch_values, eps=g.eps, position=position)
    ids = jnp.broadcast_to(jnp.arange(g.num_patches), (len(latent), g.num_patches))
    split, taps = TokenSplit(ids, (g.num_patches,)), ("block", "all")
    apply = lambda tree, x: model.apply({"params": tree}, x, split, taps=taps)[1]  # noqa: E731
    seen = jax.jit(apply)(params, latent)
    blocks = {f"decoder block {i}": block for i, block in enumerate(seen["block"])}
    return {**blocks, "prediction": seen["all"]}
