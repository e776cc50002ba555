"""All processes compile the step, and only then does one of them run it."""

from collections.abc import Hashable
from typing import Any

import jax

from maskjax.errors import UserError
from maskjax.train import blackboard, processes
from maskjax.train.step import StepFn


class CompiledTogether:
    """A step whose first call, for each static value, waits until every process has compiled it.

    The first program that sends something between processes connects them, and backends wait for
    that only so long (gloo, of CPUs: 30 s): one that is still compiling would be given up. Made for
    several processes, it works with one.

    Args:
        step: of `make_train_step`.
        seconds: how long the fastest one waits for the others.

    Raises:
        UserError: when called, naming the processes that have not compiled in time; jax refuses a
            batch of other shapes than the first one's.
    """

    def __init__(self, step: StepFn, seconds: float = 3600.0):
        self._step, self._seconds = step, seconds
        self._compiled: dict[Hashable, Any] = {}

    def __call__(self, state, batch, static: Hashable = None):
        """As the step."""
        if static not in self._compiled:
            self._compiled[static] = self._step.lower(state, batch, static).compile()
            late = blackboard.wait(f"compiled/{len(self._compiled)}", self._seconds)
            if late:
                who = processes.called(late)
                raise UserError(f"{who} did not compile the step within {self._seconds:.0f} s")
        return self._compiled[static](state, batch)


def compiled_together(step: StepFn) -> StepFn:
    """The step itself with one process, else a `CompiledTogether`."""
    return step if jax.process_count() == 1 else CompiledTogether(step)
