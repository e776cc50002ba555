"""ColorMAE: MAE whose masks are cut from filtered ("coloured") noise.

Hinojosa, Liu, Ghanem, "ColorMAE: Exploring Data-Independent Masking Strategies in Masked
AutoEncoders", ECCV 2024, with the details of the official code. The sampler is the only change to
MAE, and all that is in this file. The filter widths of the published noise are not public: those
here are our defaults.
"""

import dataclasses
from collections.abc import Callable, Hashable

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from maskjax.masking import TokenSplit, colors, noise_filters
from maskjax.masking.draws import Draws, stream_key
from maskjax.method import Batch, Method, Schedule, Tree, require
from maskjax.pretext import masked_autoencoder

DEFAULTS = {
    **masked_autoencoder.DEFAULTS,
    # A colour, or ((epoch, colour), ...): each holds from its epoch on. The paper's pick is green.
    "color": "green",
    "sigmas": (),  # blur widths in patches of all colours; () = `noise_filters.SIGMAS` of each
    # 0 = noise is filtered for each image on the fly. Official: windows of a bank of noise, which
    # is then part of the state, made with the run's seed: (slices, side).
    "bank": (0, 0),
    "batch_shared": False,  # official: one window and flip for a batch, image k gets slice k
}


def build(cfg: ConfigDict, example: Batch, schedule: Schedule) -> Method:
    """ColorMAE from `config.model`.

    Raises:
        UserError: for sizes, ratios, colours or data that do not fit each other.
    """
    starts = _starts(cfg)
    _check_widths(cfg, starts)
    slices, side = cfg.bank
    require(slices >= 0 <= side, "model.bank", tuple(cfg.bank), "must be (slices, side), or (0, 0)")
    shared = bool(cfg.batch_shared)
    fits = slices > 0 or not shared
    require(fits, "model.batch_shared", shared, "needs model.bank with at least one slice")

    def sampler(grid: tuple[int, int], num_visible: int) -> masked_autoencoder.Sampler:
        fits = slices == 0 or side >= max(grid)
        require(fits, "model.bank", tuple(cfg.bank), f"side is smaller than the grid {grid}")
        kept = {"grid": grid, "num_visible": num_visible}

        def sample(draws: Draws, extra: Tree, static: Hashable) -> TokenSplit:
            color = static or starts[-1][1]
            sigmas = tuple(cfg.sigmas) or None
            if not slices:
                noise = draws.uniform("mask", colors.canvas(grid, color, sigmas))
                return colors.colored(noise, color=color, sigmas=sigmas, **kept)
            bank = extra["banks"][color]
            windows = _windows(draws, bank.shape, grid, shared)
            return jax.vmap(lambda w: colors.colored_from_bank(w, bank, **kept))(windows)

        return sample

    mae = masked_autoencoder.method(cfg, example, sampler)
    return dataclasses.replace(
        mae,
        init=_with_banks(mae.init, cfg, starts) if slices else mae.init,
        static=_color_at(starts, schedule.steps_per_epoch),
        coupled=shared,
    )


def _windows(
    draws: Draws, shape: tuple[int, ...], grid: tuple[int, int], shared: bool
) -> colors.BankWindow:
    """Slice, corner and flips for each image, or those that official ColorMAE gives a batch."""
    drawn = draws.uniform("mask", (5,))
    numbers = jnp.arange(len(drawn))
    if shared:
        drawn = drawn[numbers // shape[0] * shape[0]]
    free = jnp.array([shape[0], shape[1] - grid[0] + 1, shape[2] - grid[1] + 1, 2, 2])
    # uniform < 1, but times a large number it may round up to it.
    index, top, left, rows, columns = jnp.minimum((drawn * free).astype(int), free - 1).T
    index = numbers % shape[0] if shared else index
    return colors.BankWindow(index, top, left, rows.astype(bool), columns.astype(bool))


def _with_banks(init: Callable, cfg: ConfigDict, starts: tuple) -> Callable:
    """MAE's init, with the banks of all colours in `extra`, from the same white noise."""
    slices, side = cfg.bank

    def init_with_banks(key: Array, batch: Batch) -> tuple[Tree, Tree]:
        params, extra = init(key, batch)
        shape = (slices, side, side)
        white = jax.random.uniform(stream_key(key, "bank"), shape)
        make = lambda color: noise_filters.make_bank(  # noqa: E731
            white, color, shape=shape, sigmas=tuple(cfg.sigmas) or None
        )
        return params, extra | {"banks": {color: make(color) for _, color in starts}}

    return init_with_banks


def _starts(cfg: ConfigDict) -> tuple[tuple[float, str], ...]:
    """((epoch, colour), ...) in the order of the epochs."""
    given = ((0, cfg.color),) if isinstance(cfg.color, str) else tuple(map(tuple, cfg.color))
    known = tuple(noise_filters.SIGMAS)
    for start in given:
        fits = len(start) == 2 and start[1] in known
        require(fits, "model.color", cfg.color, f"(epoch, one of {', '.join(known)})")
    epochs = [epoch for epoch, _ in given]
    rising = bool(epochs) and epochs[0] == 0 and epochs == sorted(set(epochs))
    require(rising, "model.color", cfg.color, "epochs must rise from 0")
    return given


def _check_widths(cfg: ConfigDict, starts: tuple):
    for _, color in starts:
        try:
            noise_filters.widths(color, tuple(cfg.sigmas) or None)
        except ValueError as error:
            require(False, "model.sigmas", tuple(cfg.sigmas), str(error))


def _color_at(starts: tuple, steps_per_epoch: float) -> Callable[[int], str]:
    """Step -> colour: one executable for each."""

    def color_at(step: int) -> str:
        epoch = step / steps_per_epoch if steps_per_epoch else 0
        return [color for start, color in starts if start <= epoch][-1]

    return color_at
