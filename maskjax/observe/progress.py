"""The progress line of a run: a bar on a terminal, one plain line per log interval when piped."""

import collections
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO


def format_duration(seconds: float) -> str:
    """Seconds for people: "42 s", "4 min 10 s", "2 h 05 min", "3 d 4 h"."""
    seconds = max(0, round(seconds))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes == 0:
        return f"{seconds} s"
    if hours == 0:
        return f"{minutes} min {seconds % 60:02d} s"
    if days == 0:
        return f"{hours} h {minutes % 60:02d} min"
    return f"{days} d {hours % 24} h"


def format_rate(rate: float) -> str:
    """Images per second with three digits: "8.25", "812", "54,500"."""
    if rate >= 1000:
        return f"{rate:,.0f}"
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.3g}"


class Throughput:
    """Examples per second over the last few marks.

    The first mark only starts the clock: what lies before it (compilation, the first batch) is
    not counted. Time spent inside `pause` is not counted either.
    """

    def __init__(self, window: int = 20, clock: Callable[[], float] = time.perf_counter):
        """Looks back over `window` intervals between marks; the clock gives seconds."""
        self._marks: collections.deque[tuple[float, int]] = collections.deque(maxlen=window + 1)
        self._clock = clock
        self._paused = 0.0

    def mark(self, examples: int) -> float | None:
        """Notes how many examples were seen since the start of training.

        Returns:
            Examples per second, or None before the second mark.
        """
        self._marks.append((self._clock() - self._paused, examples))
        return self.rate

    @property
    def rate(self) -> float | None:
        """Examples per second over the window, or None if there is none yet."""
        if len(self._marks) < 2:
            return None
        (start, first), (end, last) = self._marks[0], self._marks[-1]
        return (last - first) / (end - start) if end > start else None

    def restart(self) -> None:
        """Forgets the window: after a recompilation."""
        self._marks.clear()

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Time in here does not count: evaluation, a blocking save."""
        start = self._clock()
        try:
            yield
        finally:
            self._paused += self._clock() - start


class Progress:
    """step/total, epoch, loss, images/s and ETA, after every log interval."""

    def __init__(
        self,
        total_steps: int,
        global_batch: int,
        *,
        start_step: int = 0,
        steps_per_epoch: float = 0.0,
        enabled: bool = True,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.perf_counter,
        what: str = "step",
    ):
        """Nothing is shown before the first `update`.

        Args:
            total_steps: where the run ends.
            global_batch: examples per step.
            start_step: where it starts (after a resume).
            steps_per_epoch: 0 = no epoch is shown.
            enabled: False on every process but the first.
            stream: default standard output.
            clock: seconds.
            what: is counted.
        """
        self._what = what
        self._total, self._batch, self._per_epoch = total_steps, global_batch, steps_per_epoch
        self._enabled = enabled
        self._stream = stream or sys.stdout
        self._throughput = Throughput(clock=clock)
        self._bar: Any = None
        self._task: Any = None
        self._start = start_step

    @property
    def images_per_second(self) -> float | None:
        """The rate shown, or None before it is known."""
        return self._throughput.rate

    def update(self, step: int, metrics: Mapping[str, Any]) -> float | None:
        """Shows the state after `step` steps; metrics["loss"] is shown if there is one.

        Returns:
            Images per second over the last log intervals, None at the first call.
        """
        rate = self._throughput.mark(step * self._batch)
        if self._enabled:
            fields = self._fields(step, metrics, rate)
            if self._stream.isatty():
                self._show(step, fields)
            else:
                share = f"({100 * step // self._total} %)"
                head = f"{self._what} {step:,}/{self._total:,} {share}"
                print("  ".join([head, *fields]), file=self._stream, flush=True)
        return rate

    def pause(self) -> contextlib.AbstractContextManager[None]:
        """Wraps work that is not training, so that images/s and ETA leave it out."""
        return self._throughput.pause()

    def restart(self) -> None:
        """Measures images/s anew: after a recompilation."""
        self._throughput.restart()

    def close(self) -> None:
        """Ends the bar; what it showed last stays on the screen."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def _fields(self, step: int, metrics: Mapping[str, Any], rate: float | None) -> list[str]:
        fields = []
        if self._per_epoch:
            fields.append(f"epoch {step / self._per_epoch:.2f}")
        if "loss" in metrics:
            fields.append(f"loss {float(metrics['loss']):.4f}")
        if rate:
            left = (self._total - step) * self._batch / rate
            fields += [f"{format_rate(rate)} images/s"]
            fields += [f"ETA {format_duration(left)}"] if left > 0 else ["done"]
        else:
            fields += ["measuring images/s"]
        return fields

    def _show(self, step: int, fields: list[str]) -> None:
        if self._bar is None:
            self._bar = _terminal_bar(self._stream)
            self._bar.start()
            self._task = self._bar.add_task("", total=self._total, completed=self._start, text="")
        self._bar.update(self._task, completed=step, text="  ".join(fields))


def _terminal_bar(stream: TextIO) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

    return Progress(
        SpinnerColumn(),
        MofNCompleteColumn(),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[text]}"),
        console=Console(file=stream),
    )
