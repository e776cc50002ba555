"""One run in its folder: restores or starts it, feeds the loop, logs, evaluates, saves."""

import contextlib
import logging
import math
import pathlib
import time
from collections.abc import Mapping

import jax
import numpy as np

from maskjax import build, data_parts
from maskjax.data import workers
from maskjax.data.source import Source
from maskjax.data.train import TrainIterator, train_iterator
from maskjax.evaluate.hosts import gather, total
from maskjax.observe import flops, run_files
from maskjax.observe.bad_examples import BadExamples
from maskjax.observe.files import write_atomic
from maskjax.observe.goodput import Goodput
from maskjax.observe.progress import Progress
from maskjax.observe.writers import open_writers
from maskjax.train import processes, runtime, sharding
from maskjax.train.checkpoint import Checkpoints
from maskjax.train.compile_together import compiled_together
from maskjax.train.feed import DeviceBatches
from maskjax.train.guard import rearmed
from maskjax.train.instruments import CompileAlarm, Profiled
from maskjax.train.interrupt import AgreedStop, StopRequest
from maskjax.train.loop import Every, Hooks, run_loop
from maskjax.train.mirror import Mirror
from maskjax.train.state import TrainState
from maskjax.train.step import StepFn
from maskjax.train.watchdog import Watchdog

log = logging.getLogger(__name__)


def saved_steps(workdir: str | pathlib.Path) -> list[int]:
    """The steps of the finished checkpoints of a run, [] for a folder without any."""
    folder = pathlib.Path(workdir) / "checkpoints"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdigit())


class Session(contextlib.ExitStack):
    """A training run between its first line and its last; a context manager.

    Args:
        parts: what `build.experiment` made, checked.
        source: training data.
        workdir: folder of the run, with its config written.
        began: when the command began, in seconds of `time.monotonic`; default now.

    Attributes:
        state: the training state.
        position: of the next example in the training stream, at the start.
        skipped: examples that were skipped before that.
    """

    def __init__(
        self,
        parts: build.Experiment,
        source: Source,
        workdir: pathlib.Path,
        began: float | None = None,
    ):
        super().__init__()
        self.parts, self.config, self.workdir = parts, parts.config, workdir
        self.began = time.monotonic() if began is None else began
        # Compiled: step by step in Python a schedule takes milliseconds a call.
        self.learning_rate = jax.jit(parts.learning_rate)
        self.total_steps = parts.schedule.total_steps
        self.scores: tuple[int, dict[str, float]] = (0, {})  # of the last evaluation, and its step
        self.left_out = 0.0  # steps, as last told
        self.goodput = Goodput(self.began)
        # Closed again if anything here fails; but of several processes, one that fails must not
        # wait for the others in closing.
        with contextlib.ExitStack() as opened, processes.together():
            self.checkpoints = opened.enter_context(self._open_checkpoints())
            self.state, self.position, self.skipped = self._restore_or_start()
            self.start_step = int(jax.device_get(self.state.step))
            self.batches = opened.enter_context(self._open_data(source))
            self.writers = opened.enter_context(self._open_writers())
            self._report()
            self.push(opened.pop_all())

    def train(self) -> int:
        """Runs the loop to the end or to a signal; returns the exit code."""
        if self.start_step >= self.total_steps:
            step = self.start_step
            processes.say(f"{self.workdir}: already trained to step {step}, nothing to do")
            return 0
        rows, limits = sharding.batch_sharding(self.parts.mesh), self.config.processes
        watchdog = Watchdog(limits.hang, self.workdir / "stacks")
        watched = watchdog.watched(self.batches, self.start_step + 1, limits.data_ready)
        self.device_batches = DeviceBatches(watched, rows)
        with (
            watchdog,
            self._stop() as stop,
            self._progress() as self.progress,
            self._listing_bad(),
            processes.together(),
        ):
            self.state = run_loop(
                self.state,
                self._step(),
                self.device_batches,
                self._hooks(stop),
                total_steps=self.total_steps,
                static=self.parts.method.static,
                watch=self.parts.watch(),
            )
        with processes.together():
            self.checkpoints.wait()
            self._say_goodbye(stop.exit_code)
        return stop.exit_code

    def _stop(self) -> StopRequest | AgreedStop:
        if jax.process_count() == 1:
            return StopRequest()
        return AgreedStop(self.checkpoints.reached_preemption, self.start_step)

    def _step(self) -> StepFn:
        """The step with an alarm for compilation, and its profile if one is wanted."""
        self.alarm = step = CompileAlarm(compiled_together(self.parts.step()))
        profile = self.config.profile
        if profile.steps and jax.process_index() == 0:
            step = Profiled(step, self.workdir / "profile", profile.start, profile.steps)
            self.callback(step.close)
        self.goodput.started()
        return step

    def _open_checkpoints(self) -> Checkpoints:
        options, committed = self.config.checkpoint, lambda step: None
        if options.mirror and processes.first():
            committed = self.enter_context(Mirror(options.mirror, self.workdir)).push
        return Checkpoints(
            self.workdir / "checkpoints",
            options.every,
            options.keep_last,
            options.keep_every,
            tuple(options.keep_best) or None,
            committed=committed,
        )

    def _restore_or_start(self) -> tuple[TrainState, int, int]:
        if self.checkpoints.latest_step() is None:
            return self.parts.start(), 0, 0
        state, position, meta = self.checkpoints.restore_newest(self.parts.abstract_state)
        step = int(jax.device_get(state.step))
        processes.say(f"{self.workdir}: resuming at step {step} (example {position:,})")
        return rearmed(state), position, meta.get("skipped", 0)

    def _open_data(self, source: Source) -> TrainIterator:
        resumed = self.start_step > 0
        self.bad_examples = BadExamples(self.workdir, jax.process_index(), keep=resumed)
        data = self.config.data
        return train_iterator(
            source,
            data_parts.train_transform(self.config),
            seed=self.config.seed,
            global_batch=data.global_batch,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            workers=data.workers,
            start=self.position,
            views=data.views,
            on_error=data.on_error,
            bad_share=data.bad_share,
            timeout=data.timeout,
        )

    @contextlib.contextmanager
    def _listing_bad(self):
        try:
            yield
        finally:
            self._list_bad()
            if jax.process_index() == 0:
                self.bad_examples.merge()

    def _list_bad(self):
        new = self.bad_examples.add(one._asdict() for one in self.batches.tally.bad)
        for entry in new[:3]:
            log.warning("skipped a training example: %s", entry["reason"])
        if new:
            log.warning("%d new bad examples; all are in %s", len(new), self.bad_examples.path)
            if jax.process_index() == 0:
                self.bad_examples.merge()

    def _open_writers(self):
        return open_writers(
            self.workdir,
            restored_step=self.start_step,
            tensorboard=self.config.tensorboard,
            wandb=self.config.wandb,
            mlflow=self.config.mlflow,
            config=self.config.to_dict(),
            enabled=jax.process_index() == 0,
        )

    def _progress(self) -> Progress:
        return Progress(
            self.total_steps,
            self.config.data.global_batch,
            start_step=self.start_step,
            steps_per_epoch=self.parts.schedule.steps_per_epoch,
            enabled=jax.process_index() == 0,
        )

    def _hooks(self, stop: StopRequest | AgreedStop) -> Hooks:
        config = self.config
        return Hooks(
            log=Every(self._log, config.train.log_every),
            evaluate=Every(self._evaluate, config.evaluate.every, at_end=False),
            save=Every(self._save, config.checkpoint.every),
            stop=stop,
        )

    def _log(self, done: int, metrics: Mapping[str, float]):
        speed = self.progress.update(done, metrics)
        values = {**metrics, "lr": float(self.learning_rate(done - 1))}
        if done == self.start_step + 1:
            seconds = time.monotonic() - self.began
            processes.say(f"first step done after {seconds:.1f} s: imports, data, compilation")
        values |= self._data_metrics(done)
        self._tell_skipped(values.get("guard/skipped", 0.0))
        spent = {"compile": self.alarm.seconds, "data": self.device_batches.waited}
        values |= self.goodput.shares(**spent)
        if speed is not None:
            values["images_per_second"] = speed
            mfu = self._mfu(speed)
            if mfu is not None:
                values["mfu"] = mfu
        self.writers.scalars(done, values)

    def _tell_skipped(self, skipped: float):
        if skipped > self.left_out:
            log.warning("%d steps so far were left out: loss or gradient not finite", skipped)
        self.left_out = skipped

    def _data_metrics(self, done: int) -> dict[str, float]:
        wait = np.array([[self.device_batches.wait_share()]])
        self._list_bad()
        return {"data/wait": float(gather(wait).max()), "data/skipped": self._num_skipped(done)}

    def _position(self, done: int) -> int:
        return self.position + (done - self.start_step) * self.config.data.global_batch

    def _num_skipped(self, done: int) -> int:
        """Of all processes, since the run began."""
        here = self.batches.tally.count(self._position(done))
        return self.skipped + int(total(np.array(here)))

    def _mfu(self, images_per_second: float) -> float | None:
        devices = self.parts.mesh.devices
        kind, dtype = devices.flat[0].device_kind, self.config.model.get("dtype", "float32")
        work = self.parts.method.step_flops
        return flops.mfu(work, images_per_second, devices.size, kind, dtype) if work else None

    def _evaluate(self, done: int, state: TrainState):
        from maskjax.evaluation import evaluate_state

        with self.progress.pause(), self.goodput.measure("evaluate"):
            scores = evaluate_state(self.parts, state, self.config.evaluate.during, self.writers)
            self.writers.scalars(done, scores)
        self.scores = (done, scores)

    def _save(self, done: int, state: TrainState, metrics: Mapping[str, float]):
        step, scores = self.scores
        ranked = {**metrics, **(scores if step == done else {})}
        meta = {"config": self.config.to_dict(), "skipped": self._num_skipped(done)}
        with self.progress.pause(), self.goodput.measure("save"):
            self.checkpoints.save(done, state, self._position(done), meta, ranked, force=True)

    def _report(self):
        config, length = self.config, self.parts.schedule
        params = sum(leaf.size for leaf in jax.tree.leaves(self.parts.abstract_state.params))
        peak = max(float(self.learning_rate(step)) for step in self._probe_steps())
        facts = {
            "device": runtime.devices_of(self.parts.mesh),
            "processes": processes.names(),
            "parameters": params,
            "total_steps": self.total_steps,
            "step_flops_per_image": self.parts.method.step_flops,
            "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        if jax.process_index() == 0:
            run_files.write_facts(self.workdir, facts)
            overview = self.parts.parameter_table()
            write_atomic(self.workdir / "parameters.txt", overview)
        epochs = length.total_steps / length.steps_per_epoch
        processes.say(
            f"{config.method}: {params:,} parameters, {length.total_steps:,} steps of"
            f" {config.data.global_batch} images ({epochs:.1f} epochs), peak lr {peak:.3g},"
            f" {self.parts.method.step_flops / 1e9:.3g} GFLOP per image and step\n"
            f"{self._input()}"
        )

    def _input(self) -> str:
        """Says how the batches are made, and in how much memory."""
        row = data_parts.example_batch(self.config, 1).values()
        row_bytes = sum(math.prod(field.shape) * field.dtype.itemsize for field in row)
        needed = self.batches.buffers.shared_bytes(row_bytes)
        if (free := workers.free_shared_memory()) is not None and needed > free:
            log.warning(
                "data workers may need %.0f MB of shared memory, %.0f MB are free: start the"
                " container with a larger --shm-size (or --ipc=host), or take fewer workers",
                needed / 1e6,
                free / 1e6,
            )
        return f"input: {self.batches.buffers.text(row_bytes)}"

    def _probe_steps(self) -> list[int]:
        return [round(self.total_steps * share / 100) for share in range(101)]

    def _say_goodbye(self, exit_code: int):
        step = self.checkpoints.latest_step()
        skipped = self._num_skipped(step)
        if skipped:
            processes.say(
                f"{skipped:,} times an example could not be used and another one took its place:"
                f" {self.bad_examples.path}"
            )
        if exit_code:
            processes.say(f"stopped: saved step {step}; the same command goes on from there")
        else:
            processes.say(f"done: step {step} in {self.workdir}/checkpoints")
            processes.say(f"next: maskjax evaluate --workdir={self.workdir}")
