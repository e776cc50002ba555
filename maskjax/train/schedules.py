"""Learning-rate schedules: jnp functions of the step, for optax and for plots.

Every schedule starts with a linear warm-up from 0. The unit of time is free: `total` and `warmup`
are counted in units of `per` steps, so `per=steps_per_epoch` reads a step as a fractional epoch,
the way MAE's training loop does, and `per=1` makes the argument itself the fractional epoch (or
`total` and `warmup` counts of steps).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from maskjax.errors import UserError

Schedule = Callable[[jax.typing.ArrayLike], jax.Array]


def scaled_lr(base_lr: float, global_batch: int) -> float:
    """Linear scaling rule, `base_lr * global_batch / 256` (Goyal et al. 2017, arXiv:1706.02677)."""
    return base_lr * global_batch / 256


def warmup_cosine(
    peak: float, *, total: float, warmup: float = 0.0, floor: float = 0.0, per: float = 1.0
) -> Schedule:
    """Linear warm-up, then half a cosine, per step, as MAE (He et al. 2022) has it.

    With e = step / per, W = warmup, E = total: e < W gives `peak * e / W`, otherwise
    `floor + (peak - floor) * 0.5 * (1 + cos(pi * (e - W) / (E - W)))`. Past E the rate stays at
    `floor`.

    Args:
        peak: rate at the end of the warm-up.
        total: length of the whole schedule, warm-up included, in units of `per` steps.
        warmup: length of the warm-up, in the same unit; 0 for none.
        floor: rate at the end; the warm-up starts at 0 whatever the floor is.
        per: how many steps make one unit of `total` and `warmup`.

    Returns:
        step (int or float, scalar or array) -> float32 of the same shape.

    Raises:
        UserError: if total <= 0, warmup < 0 or per <= 0.
    """

    def decay(fraction: jax.Array) -> jax.Array:
        return floor + (peak - floor) * 0.5 * (1.0 + jnp.cos(jnp.pi * fraction))

    return _with_warmup(decay, peak, total, warmup, per)


def warmup_linear(
    peak: float, *, total: float, warmup: float = 0.0, floor: float = 0.0, per: float = 1.0
) -> Schedule:
    """Linear warm-up, then a straight line to `floor` at `total`; arguments of `warmup_cosine`."""
    return _with_warmup(lambda fraction: peak + (floor - peak) * fraction, peak, total, warmup, per)


def warmup_constant(
    peak: float, *, total: float = 1.0, warmup: float = 0.0, per: float = 1.0
) -> Schedule:
    """Linear warm-up, then `peak` for ever; arguments of `warmup_cosine`, `total` has no effect."""
    return _with_warmup(lambda fraction: jnp.full_like(fraction, peak), peak, total, warmup, per)


def _with_warmup(
    decay: Callable[[jax.Array], jax.Array], peak: float, total: float, warmup: float, per: float
) -> Schedule:
    """Warm-up, then `decay(fraction)`; fraction in [0, 1] of the time from warm-up to `total`."""
    if total <= 0 or warmup < 0 or per <= 0:
        raise UserError(
            f"schedule: needs total > 0, warmup >= 0 and per > 0, got {total=}, {warmup=}, {per=}"
        )

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        time = jnp.asarray(step, jnp.float32) / per
        # Clipped, because the cosine would rise again when a run is prolonged past `total`; the
        # length is kept away from 0 for the degenerate run that ends inside its warm-up.
        fraction = jnp.clip((time - warmup) / max(total - warmup, 1e-9), 0.0, 1.0)
        if warmup == 0:
            return decay(fraction)
        return jnp.where(time < warmup, peak * time / warmup, decay(fraction))

    return schedule
