"""What a step can be wrapped in: an alarm for compilation, a profile of a few steps."""

import contextlib
import logging
import pathlib
import time
from collections.abc import Callable, Hashable, Iterator

import jax

from maskjax.train.step import StepFn

log = logging.getLogger(__name__)

_COMPILED = "/jax/core/compile/backend_compile_duration"


class CompileAlarm:
    """Calls a step, and warns when it is compiled again for a static value that it has had.

    That happens when the shape, dtype or sharding of an argument changes from one step to another,
    and each time costs as much as the start of the run.

    Args:
        step: of `make_train_step`.
        warn: called as `logging.warning`.

    Attributes:
        seconds: in calls that compiled.
        alarms: how often it was compiled without need.
    """

    def __init__(self, step: StepFn, warn: Callable[..., None] = log.warning):
        self._step, self._warn = step, warn
        self._seen: set[Hashable] = set()
        self.seconds, self.alarms = 0.0, 0

    def __call__(self, state, batch, static: Hashable = None):
        """As the step."""
        start = time.monotonic()
        with _compilations() as count:
            result = self._step(state, batch, static)
        if count():
            seconds = time.monotonic() - start
            self.seconds += seconds
            if static in self._seen:
                self.alarms += 1
                self._warn(
                    "the step was compiled again (%.1f s): the shape, dtype or sharding of its"
                    " state or batch has changed; this is alarm %d of this run",
                    seconds,
                    self.alarms,
                )
        self._seen.add(static)
        return result


@contextlib.contextmanager
def _compilations() -> Iterator[Callable[[], int]]:
    """A function that tells how many programs were compiled or fetched from the cache in here."""
    found: list[str] = []

    def listen(event: str, duration: float, **_):
        if event == _COMPILED:
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield lambda: len(found)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


class Profiled:
    """Calls a step, and records a window of calls for TensorBoard's or XProf's profile page.

    The window begins when the steps before it are finished, and ends when its own are.

    Args:
        step: of `make_train_step`.
        folder: the profile goes here.
        first: number of the call, from 0, that is the first to be recorded; choose one after the
            compilation.
        count: how many are recorded.
    """

    def __init__(self, step: StepFn, folder: str | pathlib.Path, first: int, count: int):
        self._step, self._folder = step, str(folder)
        self._first, self._last, self._calls = first, first + count - 1, 0

    def __call__(self, state, batch, static: Hashable = None):
        """As the step."""
        if self._calls == self._first:
            jax.block_until_ready(state)
            jax.profiler.start_trace(self._folder)
        with jax.profiler.StepTraceAnnotation("train", step_num=self._calls):
            result = self._step(state, batch, static)
        if self._calls == self._last:
            jax.block_until_ready(result)
            self.close()
            log.info("profile of %d steps: %s", self._last - self._first + 1, self._folder)
        self._calls += 1
        return result

    def close(self):
        """Ends a recording that the end of the run has cut short."""
        with contextlib.suppress(RuntimeError):  # none is going on
            jax.profiler.stop_trace()
