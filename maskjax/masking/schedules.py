"""Hidden shares that change during training, as functions of progress.

Each function returns a schedule: (progress in [0, 1], draw in [0, 1)) -> ratio in [0, 1]. Numbers
give numbers, arrays (traced ones too) give arrays. Only `uniform` looks at the draw.

    ratio = schedules.cosine(0.5, 0.9)
    ratio(step / total_steps)

A ratio that changes the number of visible tokens changes shapes: see `counts.bucket_counts`.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Number = Any  # float or float array
Schedule = Callable[..., Number]


def constant(ratio: float) -> Schedule:
    """The same ratio all the time.

    Raises:
        ValueError: if it is outside [0, 1].
    """
    _check(ratio)
    return lambda progress, draw=0.5: ratio + 0 * _clip(progress)


def linear(start: float, end: float) -> Schedule:
    """From `start` to `end` on a straight line.

    Raises:
        ValueError: if one is outside [0, 1].
    """
    _check(start, end)
    return lambda progress, draw=0.5: start + (end - start) * _clip(progress)


def cosine(start: float, end: float) -> Schedule:
    """From `start` to `end` on half a cosine: flat at both ends.

    Raises:
        ValueError: if one is outside [0, 1].
    """
    _check(start, end)

    def ratio(progress: Number, draw: Number = 0.5) -> Number:
        progress = _clip(progress)
        xp = jnp if isinstance(progress, jax.Array) else np
        return start + (end - start) * 0.5 * (1 - xp.cos(math.pi * progress))

    return ratio


def stepwise(ratios: Sequence[float], boundaries: Sequence[float]) -> Schedule:
    """ratios[i] from boundaries[i - 1] (included) to boundaries[i] (not included).

    Raises:
        ValueError: if a ratio is outside [0, 1], there is not one boundary fewer than ratios, or
            the boundaries do not rise inside (0, 1).
    """
    _check(*ratios)
    edges = (0, *boundaries, 1)
    rising = all(a < b for a, b in itertools.pairwise(edges))
    if len(ratios) != len(boundaries) + 1 or not rising:
        found = f"got {len(ratios)} ratios and boundaries {tuple(boundaries)}"
        raise ValueError(
            f"stepwise needs one boundary fewer than ratios, rising in (0, 1); {found}"
        )
    jumps = [b - a for a, b in itertools.pairwise(ratios)]

    def ratio(progress: Number, draw: Number = 0.5) -> Number:
        progress = _clip(progress)
        passed = (j * (progress >= b) for j, b in zip(jumps, boundaries, strict=True))
        return sum(passed, start=ratios[0] + 0 * progress)

    return ratio


def uniform(low: float, high: float) -> Schedule:
    """A ratio drawn anew each time, uniformly between `low` and `high`: low + (high - low) * draw.

    The draw must be one number for the whole batch where the ratio decides about shapes: take it
    from the run's seed and the step, the same on every host.

    Raises:
        ValueError: if one is outside [0, 1].
    """
    _check(low, high)

    def ratio(progress: Number, draw: Number = 0.5) -> Number:
        return low + (high - low) * draw + 0 * _clip(progress)

    return ratio


def _clip(progress: Number) -> Number:
    """Progress in [0, 1]: a Python number stays on the host."""
    if isinstance(progress, jax.Array):
        return jnp.clip(progress, 0, 1)
    return np.clip(progress, 0.0, 1.0)


def _check(*ratios: float):
    if not ratios or not all(0 <= ratio <= 1 for ratio in ratios):
        raise ValueError(f"ratios are hidden shares, in [0, 1]; got {ratios}")
