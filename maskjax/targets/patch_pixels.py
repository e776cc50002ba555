"""The patches of an image as network input and as target, and the way back to a picture."""

import dataclasses

from jax import Array

from maskjax import masking
from maskjax.targets import pixels


@dataclasses.dataclass(frozen=True)
class PatchPixels:
    """How images become patches, inputs and targets, for one configuration.

    Attributes:
        grid: (rows, columns) of patches.
        patch: (height, width) of a patch in pixels.
        norm_pix: targets are normalised per patch (MAE's `norm_pix_loss`).
        mean, std: per channel, for pixel values in 0..1.
    """

    grid: tuple[int, int]
    patch: tuple[int, int]
    norm_pix: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def num_tokens(self) -> int:
        """N = rows * columns."""
        return self.grid[0] * self.grid[1]

    def patches(self, image: Array) -> Array:
        """Images [B, H, W, C] -> raw patches [B, N, P]."""
        return masking.patchify(image, self.patch)

    def standardize(self, patches: Array) -> Array:
        """Raw patches -> network input, float32."""
        return pixels.standardize(patches, self.mean, self.std)

    def target(self, patches: Array) -> Array:
        """Raw patches -> what is predicted for them, float32."""
        patches = self.standardize(patches)
        return pixels.normalize_patches(patches) if self.norm_pix else patches

    def values(self, image: Array) -> Array:
        """Images [B, H, W, C] in 0..1 -> patches [B, N, P] in target space, not normalised."""
        return pixels.from_unit(self.patches(image), self.mean, self.std)

    def picture(self, values: Array, raw: Array) -> Array:
        """Values in target space [B, N, P] -> images [B, H, W, C] in 0..1 (clipped).

        Patch normalisation is undone with the moments of the true, standardised patches `raw`.
        """
        if self.norm_pix:
            values = pixels.denormalize_patches(values, raw)
        values = pixels.unstandardize(values, self.mean, self.std)
        return masking.unpatchify(values, self.grid, self.patch).clip(0, 1)

    def pictures(self, image: Array, prediction: Array, hidden: Array) -> dict[str, Array]:
        """What `predict["reconstruct"]` returns, from a prediction [B, N, P] in raster order.

        Args:
            image: [B, H, W, C].
            prediction: float[B, N, P] in target space.
            hidden: bool[B, N], True = not shown to the model.
        """
        patches = self.patches(image)
        raw, target = self.standardize(patches), self.target(patches)
        return {
            "prediction": prediction,
            "target": target,
            "hidden": hidden,
            "pixels": self.picture(prediction, raw),
            "original": self.picture(target, raw),
        }
