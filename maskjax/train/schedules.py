"""Learning-rate schedules: jnp functions of the step, for optax and for plots.

Every schedule starts with a linear warm-up, from 0 unless `start` says otherwise. The unit of time
is free: `total` and `warmup` are counted in units of `per` steps, so `per=steps_per_epoch` reads a
step as a fractional epoch, the way MAE's training loop does, and `per=1` makes the argument itself
the fractional epoch (or `total` and `warmup` counts of steps).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from maskjax.errors import UserError

Schedule = Callable[[jax.typing.ArrayLike], jax.Array]


def scaled_lr(base_lr: float, global_batch: int, lr_batch: int = 256) -> float:
    """Linear scaling rule, `base_lr * global_batch / lr_batch` (Goyal et al. 2017, with 256)."""
    return base_lr * global_batch / lr_batch


def warmup_cosine(
    peak: float,
    *,
    total: float,
    warmup: float = 0.0,
    floor: float = 0.0,
    per: float = 1.0,
    start: float = 0.0,
    restart: bool = True,
) -> Schedule:
    """Linear warm-up, then half a cosine, per step, as MAE (He et al. 2022) has it.

    With e = step / per, W = warmup, E = total: e < W gives `start + (peak - start) * e / W`,
    otherwise `floor + (peak - floor) * 0.5 * (1 + cos(pi * (e - W) / (E - W)))`. Past E the rate
    stays at `floor`.

    Args:
        peak: rate at the end of the warm-up.
        total: length of the whole schedule, warm-up included, in units of `per` steps.
        warmup: length of the warm-up, in the same unit; 0 for none.
        floor: rate at the end.
        per: how many steps make one unit of `total` and `warmup`.
        start: rate at step 0, whatever the floor is; without a warm-up it has no effect.
        restart: False = the cosine has run since step 0, hidden by the warm-up: its angle is
            `pi * e / E`, and the rate drops a little where the warm-up ends (timm's and SimMIM's).

    Returns:
        step (int or float, scalar or array) -> float32 of the same shape.

    Raises:
        UserError: if total <= 0, warmup < 0 or per <= 0.
    """

    def decay(fraction: jax.Array) -> jax.Array:
        return floor + (peak - floor) * 0.5 * (1.0 + jnp.cos(jnp.pi * fraction))

    run = _Run(total, warmup, per, start, origin=warmup if restart else 0.0)
    return _with_warmup(decay, peak, run)


def warmup_linear(
    peak: float,
    *,
    total: float,
    warmup: float = 0.0,
    floor: float = 0.0,
    per: float = 1.0,
    start: float = 0.0,
) -> Schedule:
    """Linear warm-up, then a straight line to `floor` at `total`; arguments of `warmup_cosine`."""
    run = _Run(total, warmup, per, start, origin=warmup)
    return _with_warmup(lambda fraction: peak + (floor - peak) * fraction, peak, run)


def warmup_constant(
    peak: float,
    *,
    total: float = 1.0,
    warmup: float = 0.0,
    per: float = 1.0,
    start: float = 0.0,
) -> Schedule:
    """Linear warm-up, then `peak` for ever; arguments of `warmup_cosine`, `total` has no effect."""
    run = _Run(total, warmup, per, start, origin=warmup)
    return _with_warmup(lambda fraction: jnp.full_like(fraction, peak), peak, run)


def warmup_drops(
    peak: float,
    *,
    milestones: Sequence[float],
    factor: float = 0.1,
    warmup: float = 0.0,
    per: float = 1.0,
    start: float = 0.0,
) -> Schedule:
    """Linear warm-up, then `peak`, multiplied by `factor` from each milestone on (SimMIM's "step").

    Args:
        peak, warmup, per, start: of `warmup_cosine`.
        milestones: times in the unit of `warmup`; one inside the warm-up acts when that ends.
        factor: of each drop.
    """
    flat = warmup_constant(peak, warmup=warmup, per=per, start=start)

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        # In steps, which are whole numbers: step / per is rounded, and a drop might be late.
        step, rate = jnp.asarray(step, jnp.float32), flat(step)
        drops = sum(jnp.float32(step >= milestone * per) for milestone in milestones)
        return jnp.where(step < warmup * per, rate, rate * factor**drops)

    return schedule


class _Run(NamedTuple):
    """Times in units of `per` steps; `origin` is where the decay begins."""

    total: float
    warmup: float
    per: float
    start: float
    origin: float


def _with_warmup(decay: Callable[[jax.Array], jax.Array], peak: float, run: _Run) -> Schedule:
    """Warm-up, then `decay(fraction)`; fraction in [0, 1] of the time from origin to `total`."""
    total, warmup, per, start, origin = run
    if total <= 0 or warmup < 0 or per <= 0:
        raise UserError(
            f"schedule: needs total > 0, warmup >= 0 and per > 0, got {total=}, {warmup=}, {per=}"
        )

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        time = jnp.asarray(step, jnp.float32) / per
        # Clipped, because the cosine would rise again when a run is prolonged past `total`; the
        # length is kept away from 0 for the degenerate run that ends inside its warm-up.
        fraction = jnp.clip((time - origin) / max(total - origin, 1e-9), 0.0, 1.0)
        if warmup == 0:
            return decay(fraction)
        rising = start + (peak - start) * time / warmup
        return jnp.where(time < warmup, rising, decay(fraction))

    return schedule
