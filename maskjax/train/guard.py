"""A step whose loss or gradient is not finite changes nothing but the step number; and is counted.

All of it happens inside the jitted step, from sums that the step makes anyway, so the host need not
look at every step. After `limit` such steps in a row every later one is left out as well, until the
host looks (at the next log line or save) and ends the run with `NonFiniteLossError`: the state is
then still that from before the first of them.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from maskjax.errors import UserError
from maskjax.method import Method, Tree
from maskjax.train.state import TrainState
from maskjax.train.tree import path_name, subtree

_SHOWN = 5


class NonFiniteLossError(UserError):
    """The loss or gradient became NaN or infinite."""


def gradient_leaves(method: Method, params: Tree) -> tuple[str, ...]:
    """Paths of the gradient's leaves, phase by phase, as `GUARD` numbers them."""
    return tuple(
        "/".join(filter(None, (phase.wrt, path_name(path))))
        for phase in method.phases
        for path, _ in jax.tree_util.tree_leaves_with_path(subtree(params, phase.wrt))
    )


def new_guard(method: Method, params: Tree) -> dict[str, Array]:
    """What the guard remembers, at the start: int32 scalars, and bool[leaves of the gradient].

    "skipped": steps so far; "in_row": of them the last ones without a break; "since": the number
    of finished steps before the first one in that row; "leaves": which were not finite then.
    """
    count = len(gradient_leaves(method, params))
    numbers = {name: jnp.zeros((), jnp.int32) for name in ("skipped", "in_row", "since")}
    return {**numbers, "leaves": jnp.zeros(count, bool)}


def guarded(old: TrainState, new: TrainState, loss: Array, leaves: Array, limit: int) -> TrainState:
    """`new`, or `old` one step further if the loss or a gradient of `new` is not finite.

    Args:
        old, new: before and after the step; both with a guard.
        loss: float32[], of all phases.
        leaves: bool[leaves of the gradient], True = finite.
        limit: steps in a row after which none is taken any more.
    """
    guard = old.guard
    over = guard["in_row"] >= limit
    good = jnp.isfinite(loss) & leaves.all() & ~over
    first = ~good & (guard["in_row"] == 0)
    kept = {
        "skipped": guard["skipped"] + jnp.where(good, 0, 1),
        "in_row": jnp.where(good, 0, guard["in_row"] + 1),
        "since": jnp.where(first, old.step, guard["since"]),
        "leaves": jnp.where(first, ~leaves, guard["leaves"]),
    }
    pick = jax.tree.map(
        lambda a, b: jnp.where(good, a, b),
        (new.params, new.opt_state, new.extra),
        (old.params, old.opt_state, old.extra),
    )
    return TrainState(new.step, *pick, kept)


def rearmed(state: TrainState) -> TrainState:
    """The state of a run that goes on: it may leave out `limit` steps in a row again."""
    if not state.guard:
        return state
    again = {
        name: jax.device_put(np.zeros(x.shape, x.dtype), x.sharding)
        for name, x in state.guard.items()
        if name != "skipped"
    }
    return dataclasses.replace(state, guard={**state.guard, **again})


def guard_metrics(guard: Mapping[str, Array]) -> dict[str, Array]:
    """What the host sees of it, beside the other metrics of a step."""
    return {f"guard/{name}": value for name, value in guard.items()}


@dataclasses.dataclass(frozen=True)
class Watch:
    """What the host makes of the metrics of a guarded step.

    Attributes:
        limit: as of `guarded`.
        leaves: as `gradient_leaves` gives them.
    """

    limit: int
    leaves: Sequence[str]

    def logged(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """The numbers to write of a step: of one that was left out only what is finite."""
        numbers = {name: float(v) for name, v in metrics.items() if name != "guard/leaves"}
        hidden = {"guard/in_row", "guard/since"}
        if numbers["guard/in_row"]:
            hidden |= {name for name, value in numbers.items() if not math.isfinite(value)}
        return {name: value for name, value in numbers.items() if name not in hidden}

    def over(self, metrics: Mapping[str, Any]) -> bool:
        """Whether no step is taken any more."""
        return int(metrics["guard/in_row"]) >= self.limit

    def error(self, done: int, metrics: Mapping[str, Any]) -> NonFiniteLossError:
        """Says what went first, and when."""
        since = int(metrics["guard/since"]) + 1
        leaves = zip(self.leaves, metrics["guard/leaves"], strict=True)
        broken = [name for name, bad in leaves if bad]
        return NonFiniteLossError(
            f"step {since}: not finite: {_names(broken, len(self.leaves))}; it and the"
            f" {self.limit - 1} steps after it were left out, so the state of step {since - 1} is"
            f" kept, saved as step {done}. Train in another --workdir with a lower config.optim.lr"
            " or base_lr, with config.optim.clip_norm, or config.model.dtype=float32; the last"
            " checkpoint, exported, can be its config.init_from"
        )


def _names(broken: Sequence[str], total: int) -> str:
    if not broken:
        return "the loss, with a finite gradient"
    if len(broken) == total:
        return "the loss or all of the gradient (so it began in the forward pass or at the loss)"
    more = f" and {len(broken) - _SHOWN} more" if len(broken) > _SHOWN else ""
    return f"the gradient of {', '.join(broken[:_SHOWN])}{more} ({len(broken)} of {total} leaves)"
