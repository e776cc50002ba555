"""Which steps are saved, and which of the saved ones are kept: `config.checkpoint`."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from maskjax.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Retention:
    """A checkpoint stays if any of the three rules keeps it.

    Attributes:
        every: save at steps divisible by this; 0 = only when forced or preempted.
        keep_last: how many of the newest to keep, at least 1.
        keep_every: keep steps divisible by this; 0 = off.
        keep_best: (metric, "max" | "min"): keep the best of those saved with this metric; empty or
            None = off.

    Raises:
        UserError: for a value outside its range, naming `config.checkpoint.<key>`.
    """

    every: int = 0
    keep_last: int = 1
    keep_every: int = 0
    keep_best: tuple[str, str] | tuple[()] | None = None

    def __post_init__(self):
        for key, low in (("every", 0), ("keep_last", 1), ("keep_every", 0)):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise UserError(f"config.checkpoint.{key}: needs an int >= {low}, got {value!r}")
        best = self.keep_best
        if best and (isinstance(best, str) or len(best) != 2 or best[1] not in ("max", "min")):
            raise UserError(
                'config.checkpoint.keep_best: needs (metric, "max") or (metric, "min"), or () for'
                f" off, got {best!r}"
            )

    def options(self, committed: Callable[[], None]) -> ocp.CheckpointManagerOptions:
        """Orbax's options for writing; `committed` is called when a save is complete."""
        save = [policies.FixedIntervalPolicy(self.every)] if self.every else []
        save.append(policies.PreemptionCheckpointingPolicy())
        keep = [policies.LatestN(self.keep_last)]
        if self.keep_every:
            keep.append(policies.EveryNSteps(self.keep_every))
        if self.keep_best:
            lower = self.keep_best[1] == "min"
            keep.append(
                policies.BestN(
                    get_metric_fn=self._rank,
                    reverse=lower,
                    n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )
        # Named processes: Orbax then waits for them by barriers that end in time, and not by a
        # collective of the devices, which would also run beside the steps.
        everyone = set(range(jax.process_count())) if jax.process_count() > 1 else None
        return ocp.CheckpointManagerOptions(
            create=False,
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=0, active_processes=everyone, barrier_sync_key_prefix="maskjax"
            ),
            save_decision_policy=policies.AnySavePolicy(save),
            preservation_policy=policies.AnyPreservationPolicy(keep),
            # Not asked when there is a policy, but without it Orbax would not write the metric.
            best_fn=self._rank if self.keep_best else None,
            cleanup_tmp_directories=True,
            async_options=ocp.AsyncOptions(post_finalization_callback=committed),
        )

    def ranking(self, metrics: dict[str, float] | None) -> dict[str, float] | None:
        """The one metric that ranks checkpoints; None where it is missing or not a number."""
        if not self.keep_best or metrics is None:
            return None
        value = metrics.get(self.keep_best[0])
        if value is None or math.isnan(value):
            log.warning(
                "config.checkpoint.keep_best: no value of %r at this save, so it cannot become the"
                " best; metrics: %s",
                self.keep_best[0],
                ", ".join(sorted(metrics)) or "none",
            )
            return None
        return {self.keep_best[0]: float(value)}

    def _rank(self, metrics: dict[str, float]) -> float:
        # A directory from before `keep_best` was changed may hold another metric.
        worst = math.inf if self.keep_best[1] == "min" else -math.inf
        return metrics.get(self.keep_best[0], worst)
