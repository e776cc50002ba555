"""An exponential moving average of the parameters, kept in the optimizer state.

Living in the optimizer state it is saved, restored and sharded with everything else: below `ema`
the tree has the paths of the parameters, so the sharding rules, which match the end of a path, need
no entry of their own.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

PyTree = Any


class EmaState(NamedTuple):
    """Of `with_ema`: updates done (int32[]), the average (float32, as params), the inner state."""

    count: jax.Array
    ema: PyTree
    inner: optax.OptState


def with_ema(
    tx: optax.GradientTransformation, decay: float | Callable[[jax.Array], jax.typing.ArrayLike]
) -> optax.GradientTransformationExtraArgs:
    """Keep `ema = d * ema + (1 - d) * params`, with the params that each update of `tx` leaves.

    The average starts at the initial parameters, so it needs no bias correction (Polyak and
    Juditsky 1992 for the idea; this form is the one of Tarvainen and Valpola 2017). It has to be
    the outermost transformation: the updates it sees must be what is really added to the
    parameters.

    Args:
        tx: the optimizer; its updates pass through unchanged.
        decay: d in [0, 1), or a function from the number of updates done before this one (int32[])
            to d.

    Returns:
        A transformation whose `update` must be given `params`.
    """
    tx = optax.with_extra_args_support(tx)

    def init(params: PyTree) -> EmaState:
        # A copy, never an alias: the step donates both the parameters and this state.
        average = jax.tree.map(lambda p: jnp.array(p, jnp.float32, copy=True), params)
        return EmaState(jnp.zeros([], jnp.int32), average, tx.init(params))

    def update(updates: PyTree, state: EmaState, params: PyTree | None = None, **extra_args: Any):
        if params is None:
            raise ValueError("with_ema: update() needs params")
        updates, inner = tx.update(updates, state.inner, params, **extra_args)
        d = decay(state.count) if callable(decay) else decay
        new_params = optax.apply_updates(params, updates)
        average = jax.tree.map(
            lambda e, p: d * e + (1.0 - d) * p.astype(jnp.float32), state.ema, new_params
        )
        return updates, EmaState(optax.safe_increment(state.count), average, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def ema_params(opt_state: PyTree) -> PyTree | None:
    """The float32 average of `with_ema`, wherever it sits in `opt_state`; None if there is none.

    With several optimizers in one state the first average found is returned: pass the state of the
    one you want.
    """
    nodes = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, EmaState))
    return next((node.ema for node in nodes if isinstance(node, EmaState)), None)
