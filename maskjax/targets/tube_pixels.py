"""The tubes of a clip as network input and as target, and the way back to pictures."""

import dataclasses

import einops
import jax.numpy as jnp
from jax import Array

from maskjax.masking.patches import tubify
from maskjax.targets import pixels

EPS = 1e-6  # added to the standard deviation, not to the variance


@dataclasses.dataclass(frozen=True)
class TubePixels:
    """How clips become tubes, inputs and targets, for one configuration (VideoMAE).

    Attributes:
        grid: (time steps, rows, columns) of tubes.
        tube: (frames, height, width) of a tube in pixels.
        normalize: targets are normalised per tube and channel; else they are pixels in 0..1.
        mean, std: per channel, for pixel values in 0..1.
    """

    grid: tuple[int, int, int]
    tube: tuple[int, int, int]
    normalize: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def tubes(self, video: Array) -> Array:
        """Clips [B, T, H, W, C] -> raw tubes [B, N, P], values (frame, row, column, channel)."""
        return tubify(video, self.tube)

    def standardize(self, tubes: Array) -> Array:
        """Raw tubes -> network input, float32."""
        return pixels.standardize(tubes, self.mean, self.std)

    def target(self, tubes: Array) -> Array:
        """Raw tubes [..., P] -> what is predicted for them, float32."""
        values = pixels.unstandardize(self.standardize(tubes), self.mean, self.std)
        if not self.normalize:
            return values
        values, (mean, std) = self._by_channel(values), self._moments(values)
        return ((values - mean) / std).reshape(tubes.shape)

    def picture(self, values: Array, raw: Array) -> Array:
        """Values in target space [B, N, P] -> strips [B, H, T' * W, C] in 0..1 (clipped).

        A strip shows the first frame of each tube, time steps beside each other. Normalisation is
        undone with the moments of the true tubes `raw`.
        """
        if self.normalize:
            true = pixels.unstandardize(self.standardize(raw), self.mean, self.std)
            mean, std = self._moments(true)
            values = (self._by_channel(values) * std + mean).reshape(values.shape)
        sizes = dict(zip("upqhw", (*self.tube, *self.grid[1:]), strict=True))
        frames = einops.rearrange(values, "b (t h w) (u p q c) -> u b (h p) (t w q) c", **sizes)[0]
        return frames.clip(0, 1)

    def to_strip(self, tubes: Array) -> Array:
        """[B, N, ...] of tubes in raster order -> [B, N, ...] of the patches of a strip."""
        _, rows, columns = self.grid
        return einops.rearrange(tubes, "b (t h w) ... -> b (h t w) ...", h=rows, w=columns)

    @property
    def strip_grid(self) -> tuple[int, int]:
        """(rows, columns) of the patches of a strip."""
        steps, rows, columns = self.grid
        return rows, steps * columns

    def _by_channel(self, values: Array) -> Array:
        return values.reshape(*values.shape[:-1], -1, len(self.mean))

    def _moments(self, values: Array) -> tuple[Array, Array]:
        """Mean and standard deviation (unbiased, plus 1e-6) of each channel of each tube."""
        values = self._by_channel(values)
        std = jnp.sqrt(values.var(-2, keepdims=True, ddof=1)) + EPS
        return values.mean(-2, keepdims=True), std
