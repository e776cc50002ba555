"""MAE whose loss is NaN at chosen steps: a method from outside the package."""

import dataclasses

import jax.numpy as jnp

from maskjax.method import Phase
from maskjax.methods.mim import mae

DEFAULTS = {**mae.DEFAULTS, "broken": ()}  # numbers of finished steps before the broken ones


def build(cfg, example, schedule):
    steps = jnp.asarray((-1, *cfg.broken))
    method = mae.build(cfg, example, schedule)
    (phase,) = method.phases

    def fn(params, extra, batch, draws, step, static):
        terms, aux = phase.fn(params, extra, batch, draws, step, static)
        factor = jnp.where((steps == step).any(), jnp.nan, 1.0)
        return {n: term._replace(sum=factor * term.sum) for n, term in terms.items()}, aux

    return dataclasses.replace(method, phases=(Phase(fn),))
