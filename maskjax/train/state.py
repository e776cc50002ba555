"""The training state: everything that changes from step to step, as one pytree."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax
from jax import Array

from maskjax.errors import UserError
from maskjax.method import Batch, Method, Tree
from maskjax.train.tree import subtree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """What a checkpoint holds.

    Attributes:
        step: int32 scalar, the number of finished steps.
        params: trained (and frozen) parameters, float32.
        opt_state: {optimizer name: its state}.
        extra: what the method keeps beside its parameters (teachers, EMA, queues, statistics).
        guard: counters of steps that were left out (`train.guard`); {} without a guard.
    """

    step: Array
    params: Tree
    opt_state: dict[str, Tree]
    extra: Tree
    guard: dict[str, Array] = dataclasses.field(default_factory=dict)


Optimizers = Mapping[str, optax.GradientTransformation]


def optimizer_scopes(method: Method, optimizers: Optimizers) -> dict[str, str]:
    """{optimizer name: path prefix of the parameters it trains}, from the method's phases.

    Raises:
        UserError: if a phase names an optimizer that does not exist, or two phases use one
            optimizer for different parameters.
    """
    scopes: dict[str, str] = {}
    for phase in method.phases:
        if phase.optimizer not in optimizers:
            names = ", ".join(optimizers)
            raise UserError(f"a phase wants the optimizer {phase.optimizer!r}; there are: {names}")
        if scopes.setdefault(phase.optimizer, phase.wrt) != phase.wrt:
            raise UserError(
                f"optimizer {phase.optimizer!r} trains both {scopes[phase.optimizer]!r} and"
                f" {phase.wrt!r}; give each phase an optimizer of its own"
            )
    return scopes


def create_state(method: Method, optimizers: Optimizers, key: Array, batch: Batch) -> TrainState:
    """A new state at step 0; pure, so that `jit(..., out_shardings=...)` makes it sharded.

    Args:
        method: what is trained.
        optimizers: {name: optax transformation}.
        key: PRNG key of the initial parameters.
        batch: an example batch; only its shapes matter.
    """
    params, extra = method.init(key, batch)
    scopes = optimizer_scopes(method, optimizers)
    opt_state = {
        name: optimizers[name].init(subtree(params, path)) for name, path in scopes.items()
    }
    return TrainState(jnp.zeros((), jnp.int32), params, opt_state, extra)
