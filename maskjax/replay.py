"""Steps of a run done again from a checkpoint: is what it computed what is computed now?"""

import dataclasses
import pathlib

import jax

from maskjax import build, data_parts
from maskjax.data.train import train_iterator
from maskjax.errors import UserError
from maskjax.observe import metrics_file
from maskjax.saved import read_config
from maskjax.train import sharding
from maskjax.train.checkpoint import Checkpoints
from maskjax.train.feed import DeviceBatches
from maskjax.train.leaves import by_name, checksums
from maskjax.train.loop import Every, Hooks, run_loop


@dataclasses.dataclass(frozen=True)
class Replay:
    """What came out.

    Attributes:
        start: the checkpoint it began at.
        losses: {step: (logged, replayed)}; logged is None for steps that the run did not log.
        leaves: names of the leaves of the state that differ from the checkpoint of the last step;
            None if there is none of that step.
    """

    start: int
    losses: dict[int, tuple[float | None, float]]
    leaves: list[str] | None

    @property
    def compared(self) -> int:
        """How many losses could be compared."""
        return sum(logged is not None for logged, _ in self.losses.values())

    @property
    def same(self) -> bool:
        """Whether all that could be compared is equal, bit for bit."""
        equal = all(logged in (None, again) for logged, again in self.losses.values())
        return equal and not self.leaves


def replay(workdir: str, steps: int, start: int | None = None) -> Replay:
    """Restores a checkpoint and trains from it; writes nothing.

    Args:
        workdir: of the run, with its data in place.
        steps: how many.
        start: the checkpoint; None = the newest after which the run has logged so many steps, else
            the oldest.

    Raises:
        UserError: if there is no such run or checkpoint, or nothing to compare with.
    """
    if steps < 1:
        raise UserError(f"--steps={steps}: must be positive")
    config = read_config(pathlib.Path(workdir))
    logged = _logged(workdir)
    source = data_parts.data_source(config, "train")
    parts = build.experiment(config, len(source) * config.data.views)
    with Checkpoints(f"{workdir}/checkpoints", read_only=True) as checkpoints:
        found = checkpoints.all_steps()
        if start is None and found:
            early = [step for step in found if step + steps <= max(logged, default=0)]
            start = max(early, default=found[0])
        state, position, _ = checkpoints.restore(parts.abstract_state, start)
        end = start + steps
        expected = checkpoints.leaf_checksums(end) if end in found else None
    if not expected and not any(start < step <= end for step in logged):
        raise UserError(
            f"{workdir}: no step of {start + 1} .. {end} is logged and no checkpoint is there of"
            f" step {end}: nothing to compare with; take another --step or more --steps"
        )
    losses, state = _again(parts, source, state, position, end)
    pairs = {step: (logged.get(step), loss) for step, loss in losses.items()}
    return Replay(start, pairs, _different(state, expected) if expected else None)


def _again(parts: build.Experiment, source, state, position: int, end: int):
    config, losses = parts.config, {}
    hooks = Hooks(
        log=Every(lambda done, metrics: losses.update({done: metrics["loss"]}), 1),
        evaluate=Every(lambda *_: None, 0, at_end=False),
        save=Every(lambda *_: None, 0, at_end=False),
    )
    with train_iterator(
        source,
        data_parts.train_transform(config),
        seed=config.seed,
        global_batch=config.data.global_batch,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        start=position,
        views=config.data.views,
        on_error=config.data.on_error,
        bad_share=config.data.bad_share,
    ) as batches:
        fed = DeviceBatches(batches, sharding.batch_sharding(parts.mesh))
        static = parts.method.static
        options = {"total_steps": end, "static": static, "watch": parts.watch()}
        state = run_loop(state, parts.step(), fed, hooks, **options)
    return losses, state


def _logged(workdir: str) -> dict[int, float]:
    path = pathlib.Path(workdir) / metrics_file.NAME
    lines = metrics_file.read_metrics(path) if path.is_file() else []
    return {int(line["step"]): line["loss"] for line in lines if "loss" in line}


def _different(state, expected: dict[str, int | None]) -> list[str]:
    found = checksums(by_name(state))
    return [name for name in found if expected.get(name) not in (None, found[name])]
