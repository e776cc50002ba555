"""The one training loop. Its order, the same on every process, is documented in `run_loop` only."""

import collections
import dataclasses
import functools
import math
from collections.abc import Callable, Hashable, Iterator, Mapping

import jax
from jax import Array

from maskjax.train.guard import NonFiniteLossError, Watch
from maskjax.train.state import TrainState
from maskjax.train.step import StepFn

Metrics = Mapping[str, float]

_STEPS_AHEAD = 2


@dataclasses.dataclass(frozen=True)
class Every:
    """Something that the loop does at steps divisible by `steps`, and after the last one.

    Attributes:
        call: gets the number of finished steps and what the hook is about.
        steps: 0 = never before the end.
        at_end: also after the last step.
    """

    call: Callable
    steps: int
    at_end: bool = True

    def due(self, done: int, last: bool) -> bool:
        """Whether to call after step `done`; `last` = the loop ends with it."""
        return (last and self.at_end) or (self.steps > 0 and done % self.steps == 0)


@dataclasses.dataclass(frozen=True)
class Hooks:
    """What happens between steps.

    Attributes:
        log: (done, metrics as floats).
        evaluate: (done, state).
        save: (done, state, metrics as floats); must be done with the arrays, or have copied them,
            on return.
        stop: asked after each step; True ends the loop after a save.
    """

    log: Every
    evaluate: Every
    save: Every
    stop: Callable[[], bool] = lambda: False


def run_loop(
    state: TrainState,
    step: StepFn,
    batches: Iterator[Mapping[str, Array]],
    hooks: Hooks,
    *,
    total_steps: int,
    static: Callable[[int], Hashable] = lambda step: None,
    watch: Watch | None = None,
) -> TrainState:
    """Trains from `state.step` to `total_steps`.

    One turn, in this order:
      1. the next batch, already on the devices;
      2. the step (the old state is donated); the host is at most two steps ahead of the devices,
         so that what it has to wait for in 1 is what they have to wait for;
      3. log, if due or if this was the first step: here (and before a save) the host waits for the
         step, and a loss or gradient that is not finite ends the run, before anything of it is
         saved; of a guarded step (`train.guard`) only after a number of them in a row, and the
         state from before them is saved;
      4. evaluate, if due;
      5. save, if due: the state and the position of the next example;
      6. stop, if asked: saves first.
    Inside a turn no array moves between host and device unless the code says so.

    Args:
        state: on the mesh, owned by the loop from here on.
        step: of `make_train_step`.
        batches: endless, beginning with the batch of step `state.step`.
        hooks: what happens between steps.
        total_steps: where to end.
        static: host-side `Method.static`.
        watch: of the guard that the step has, if it has one.

    Raises:
        NonFiniteLossError: if the logged loss or gradient norm is not finite.
    """
    done = first = int(jax.device_get(state.step))
    in_flight = collections.deque()
    while done < total_steps:
        with jax.transfer_guard("disallow"):
            state, metrics = step(state, next(batches), static(done))
        in_flight.append(metrics)
        if len(in_flight) > _STEPS_AHEAD:
            jax.block_until_ready(in_flight.popleft())
        done += 1
        last = done == total_steps
        stop = hooks.stop()
        log, save = hooks.log.due(done, last or stop), hooks.save.due(done, last or stop)
        log |= done == first + 1
        if log or save:
            values = _fetch(metrics, watch, functools.partial(hooks.save.call, done, state), done)
        if log:
            hooks.log.call(done, values)
        if hooks.evaluate.due(done, last):
            hooks.evaluate.call(done, state)
        if save:
            hooks.save.call(done, state, values)
        if stop:
            break
    return state


def _fetch(
    metrics: Mapping[str, Array], watch: Watch | None, save: Callable[[Metrics], None], done: int
) -> Metrics:
    """The numbers of a finished step; raises, after a save of what is good, if there is no more."""
    found = jax.device_get(metrics)
    values = watch.logged(found) if watch else {name: float(v) for name, v in found.items()}
    if watch and watch.over(found):
        save(values)
        raise watch.error(done, found)
    _check_finite(done, values)
    return values


def _check_finite(done: int, metrics: Metrics):
    broken = [name for name, value in metrics.items() if not math.isfinite(value)]
    if broken:
        raise NonFiniteLossError(
            f"step {done}: not finite: {', '.join(broken)}. The checkpoints are from before that."
            " Train in another --workdir with a lower config.optim.lr or base_lr, with"
            " config.optim.clip_norm, or config.model.dtype=float32; the last checkpoint, exported,"
            " can be its config.init_from"
        )
