"""Checkpoints: Orbax's `CheckpointManager` (v0, asynchronous) behind one class.

    DIRECTORY/<step>/state   arrays of the training state (Orbax), nested by path
                    /data    {"position": examples taken from the training stream}
                    /meta    format version, package versions, leaf table, what the caller adds

Orbax writes a step under another name and renames it when it is complete, so a killed process
leaves a leftover, never half a step. What Orbax does not do is done here: it casts dtypes silently,
so the leaf table (path, shape, dtype) is compared first; it does not notice changed bytes in large
arrays, so each leaf has a checksum. The state is stored as nested dicts of its paths, and so does
not depend on the classes (optax's, ours) it is made of.
"""

import contextlib
import importlib.metadata
import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import SingleDeviceSharding

import maskjax
from maskjax.errors import UserError
from maskjax.train import blackboard, host_memory, tensorstore_leak
from maskjax.train.leaves import Leaf, by_name, checksums, compare, like, nested
from maskjax.train.migrations import FORMAT_VERSION, Stored, migrate
from maskjax.train.retention import Retention
from maskjax.train.storage import DamagedError, readable, together, writable

log = logging.getLogger(__name__)
PyTree = Any


class Checkpoints:
    """The checkpoints of one run; a context manager. Every process of the run calls every method.

    Args:
        directory: where the steps are; made if missing.
        every, keep_last, keep_every, keep_best: which steps to save and to keep, see `Retention`.
        read_only: never write, delete or clean up: for looking at a run that may still be going on.
        committed: called with the step when a save is finished, from another thread.

    Raises:
        UserError: for impossible values, or a `directory` that is missing when `read_only`.
    """

    def __init__(
        self,
        directory: str | Path,
        every: int = 0,
        keep_last: int = 1,
        keep_every: int = 0,
        keep_best: tuple[str, str] | None = None,
        *,
        read_only: bool = False,
        committed: Callable[[int], None] = lambda step: None,
    ):
        # Buckets ("gs://...") are passed on as they are; Orbax wants local paths absolute.
        text = str(directory)
        self.directory = text if "://" in text else str(Path(text).absolute())
        if read_only and "://" not in text and not Path(text).is_dir():
            raise UserError(f"{text}: there is no such directory of checkpoints")
        self._retention = Retention(every, keep_last, keep_every, keep_best)
        self._read_only, self._on_commit = read_only, committed
        self._in_flight = (0, 0.0)
        # Orbax's own read_only warns about itself at every start.
        tensorstore_leak.contain()
        options = ocp.CheckpointManagerOptions(create=False)
        items = ("state", "data", "meta")
        with writable(self.directory, self.latest_step):
            if not read_only:
                epath.Path(self.directory).mkdir(parents=True, exist_ok=True)
                options = self._retention.options(self._committed)
            self._manager = ocp.CheckpointManager(self.directory, options=options, item_names=items)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def save(
        self,
        step: int,
        state: PyTree,
        data_position: int,
        meta: dict[str, Any],
        metrics: dict[str, float] | None = None,
        force: bool = False,
    ) -> bool:
        """Start to save if `step` is due, forced, or the last chance before a preemption.

        Returns as soon as the arrays are copied from the devices: the caller may then donate them.

        Args:
            step: finished steps.
            state: pytree of arrays.
            data_position: examples taken from the training stream so far.
            meta: what to keep beside it (the resolved config); must be JSON.
            metrics: may hold the metric of `keep_best`.
            force: save although it is not due.

        Returns:
            Whether a save was started; False as well if this step is there already.
        """
        if self._read_only:
            raise RuntimeError(f"{self.directory}: opened with read_only=True")
        if not (force or self._manager.should_save(step)) or step in self._manager.all_steps():
            return False
        self._wait_for_previous(step)
        with _orbax_conditions(), writable(self.directory, self.latest_step):
            start = time.monotonic()
            self._in_flight = (step, start)
            log.info("checkpoint %d: saving to %s (host memory %s)", step, self.directory, _rss())
            leaves = by_name(state)
            described = {**meta, **_own_meta(leaves)}
            items = ocp.args.Composite(
                state=ocp.args.PyTreeSave(nested(leaves)),
                data=ocp.args.JsonSave({"position": int(data_position)}),
                meta=ocp.args.JsonSave(json.loads(json.dumps(described))),
            )
            self._manager.save(
                step, args=items, metrics=self._retention.ranking(metrics), force=True
            )
            log.info("checkpoint %d: blocked for %.2f s", step, time.monotonic() - start)
        return True

    def restore(self, abstract: PyTree, step: int | None = None) -> tuple[PyTree, int, dict]:
        """Read a whole state.

        Args:
            abstract: the state as `jax.ShapeDtypeStruct`s whose shardings say where each array
                goes, on any mesh; without a sharding, on the first local device.
            step: which checkpoint; None = the latest.

        Returns:
            (state, data position, meta): meta as saved, with `format_version` and `versions`.

        Raises:
            UserError: if there is no checkpoint, it cannot be read, it is of a newer format, or a
                leaf is missing, left over, or of another shape or dtype (names them).
        """
        step = self._pick(step)
        stored, where = self._describe(step), self._where(step)
        wanted = by_name(abstract)
        kept, new = _without_guard(stored.leaves, wanted)
        compare(kept, {name: leaf for name, leaf in wanted.items() if name not in new}, where)
        arrays = self._read(step, stored, {n: wanted[n] for n in wanted if n not in new})
        state = like(abstract, arrays | {n: _zeros(leaf) for n, leaf in new.items()})
        log.info("checkpoint %d: restored from %s", step, self.directory)
        return state, stored.data["position"], stored.meta

    def restore_newest(self, abstract: PyTree) -> tuple[PyTree, int, dict]:
        """As `restore`, of the newest checkpoint that is whole; for a run that goes on writing.

        Damaged ones that are newer are set aside as "damaged-<step>"; a warning names them.

        Raises:
            UserError: as `restore`; if none is whole, nothing is touched.
        """
        self.wait()
        damaged: dict[int, DamagedError] = {}
        for step in reversed(self.all_steps()):
            try:
                found = self.restore(abstract, step)
            except DamagedError as error:
                damaged[step] = error
                continue
            self._set_aside(damaged)
            return found
        raise next(iter(damaged.values()), None) or self._nothing()

    def _set_aside(self, damaged: dict[int, DamagedError]) -> None:
        for step, error in damaged.items():
            aside = f"{self.directory}/damaged-{step}"
            log.warning("checkpoint %d was skipped and is now %s: %s", step, aside, error)
            if jax.process_index() == 0:
                epath.Path(aside).rmtree(missing_ok=True)
                epath.Path(self._where(step)).rename(aside)
        if damaged:
            blackboard.exchange("set aside", 3600)
            self._manager.reload()

    def restore_params(
        self,
        step: int | None,
        params: PyTree,
        *,
        extra: PyTree | None = None,
        ema: bool = False,
    ) -> tuple[PyTree, PyTree | None, dict]:
        """Read parameters only (and `extra`), for evaluation and export: no optimizer state.

        Args:
            step: which checkpoint; None = the latest.
            params: abstract parameters, or a part of them, as in `restore`.
            extra: abstract `extra`, if wanted.
            ema: read the parameters' moving average instead of the parameters.

        Returns:
            (params, extra or None, meta).

        Raises:
            UserError: as `restore`, and if there is no moving average.
        """
        step = self._pick(step)
        stored, where = self._describe(step), self._where(step)
        prefix = _ema_prefix(stored.leaves, params, where) if ema else "params/"
        wanted = by_name(params, prefix) | by_name(extra, "extra/")
        compare(stored.leaves, wanted, where, whole=False)
        arrays = self._read(step, stored, wanted)
        return like(params, arrays, prefix), like(extra, arrays, "extra/"), stored.meta

    def meta(self, step: int | None = None) -> dict[str, Any]:
        """What was saved beside the arrays, the config first of all; raises as `restore`."""
        return self._describe(self._pick(step)).meta

    def parameters(self, step: int | None = None) -> dict[str, jax.ShapeDtypeStruct]:
        """{path: shape and dtype} of the parameters that were saved; raises as `restore`."""
        leaves = self._describe(self._pick(step)).leaves
        found = {n.removeprefix("params/"): x for n, x in leaves.items() if n.startswith("params/")}
        return {n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in found.items()}

    def leaf_checksums(self, step: int) -> dict[str, int | None]:
        """{name: checksum} of the leaves of a checkpoint; None where none was recorded."""
        return {name: leaf.checksum for name, leaf in self._describe(step).leaves.items()}

    def all_steps(self) -> list[int]:
        """The finished checkpoints on disk, oldest first; one that is being saved is not listed."""
        return sorted(ocp.path.step.checkpoint_steps(self.directory))

    def latest_step(self) -> int | None:
        """The newest finished checkpoint, or None."""
        return max(self.all_steps(), default=None)

    def reached_preemption(self, step: int) -> bool:
        """Whether this machine was told to stop; all processes agree on the step."""
        return self._manager.reached_preemption(step)

    def wait(self) -> None:
        """Return when no save is running.

        Raises:
            StorageError: if the last one failed.
        """
        with writable(self.directory, self.latest_step):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait, then free the threads; raises as `wait`."""
        with writable(self.directory, self.latest_step):
            self._manager.close()

    def _wait_for_previous(self, step: int) -> None:
        if self._manager.is_saving_in_progress():
            log.warning(
                "checkpoint %d is due while %d is still being written: training waits; save less"
                " often or to faster storage",
                step,
                self._in_flight[0],
            )
        self.wait()

    def _committed(self) -> None:
        step, start = self._in_flight
        seconds = time.monotonic() - start
        host_memory.return_freed_memory()
        log.info("checkpoint %d: committed after %.2f s (host memory %s)", step, seconds, _rss())
        self._on_commit(step)

    def _where(self, step: int) -> str:
        return f"{self.directory}/{step}"

    def _pick(self, step: int | None) -> int:
        if step is None:
            self.wait()
        steps = self.all_steps()
        if step is None and steps:
            return steps[-1]
        if step not in steps:
            raise self._nothing(step)
        return step

    def _nothing(self, step: int | None = None) -> UserError:
        steps = self.all_steps()
        wanted = "finished checkpoint" if step is None else f"checkpoint of step {step}"
        found = ", ".join(map(str, steps)) or "none"
        return UserError(f"{self.directory}: no {wanted} (steps found: {found})")

    def _describe(self, step: int) -> Stored:
        """Read `meta` and `data`, and bring them to the current format."""

        def read() -> Stored:
            folder, handler = epath.Path(self._where(step)), ocp.JsonCheckpointHandler()
            meta, data = (dict(handler.restore(folder / item)) for item in ("meta", "data"))
            table = meta.pop("leaves")
            leaves = {n: Leaf(n, tuple(shape), *rest) for n, (shape, *rest) in table.items()}
            stored = migrate(Stored(meta, data, leaves), self._where(step))
            return replace(stored, data={"position": int(stored.data["position"])})

        with _orbax_conditions():
            return together(self._where(step), read)

    def _read(self, step: int, stored: Stored, wanted: dict[str, Any]) -> dict[str, jax.Array]:
        """{name: array} of the wanted leaves, each placed as wanted, checksums compared."""
        places = {name: stored.leaves[name].stored for name in wanted}
        target = nested({places[name]: _placed(leaf) for name, leaf in wanted.items()})
        args = ocp.args.PyTreeRestore(
            item=target,
            restore_args=ocp.checkpoint_utils.construct_restore_args(target),
            partial_restore=True,
        )

        def read() -> dict[str, jax.Array]:
            # The handler itself: Orbax's manager waits for the other processes after reading, also
            # for one that could not read.
            folder = epath.Path(self._where(step)) / "state"
            by_place = by_name(ocp.PyTreeCheckpointHandler().restore(folder, args=args))
            return {name: by_place[place] for name, place in places.items()}

        with _orbax_conditions():
            arrays = together(self._where(step), read)
            with readable(self._where(step)):
                for name, found in checksums(arrays).items():
                    if stored.leaves[name].checksum not in (None, found):
                        raise ValueError(f"the values of {name} are not those that were saved")
        return arrays


def _without_guard(stored: dict[str, Leaf], wanted: dict[str, Any]) -> tuple[dict, dict]:
    """Guards may come and go: (stored leaves without one that is not wanted, those not stored)."""
    kept = {n: leaf for n, leaf in stored.items() if n in wanted or not n.startswith("guard/")}
    new = {n: leaf for n, leaf in wanted.items() if n not in stored and n.startswith("guard/")}
    return kept, new


def _zeros(leaf: Any) -> jax.Array:
    return jax.device_put(np.zeros(leaf.shape, leaf.dtype), _placed(leaf).sharding)


def _own_meta(leaves: dict[str, jax.Array]) -> dict[str, Any]:
    sums = checksums(leaves)
    packages = ("jax", "jaxlib", "orbax-checkpoint", "optax", "flax")
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {
        "format_version": FORMAT_VERSION,
        "versions": {"maskjax": maskjax.__version__, **versions},
        "leaves": {n: [list(x.shape), str(x.dtype), sums[n]] for n, x in leaves.items()},
    }


def _placed(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None) or SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _ema_prefix(stored: dict[str, Leaf], params: PyTree, where: str) -> str:
    """Path under which the average of `params` is stored, by the name of its first leaf."""
    first = next(iter(by_name(params)))
    for name in stored:
        if name.startswith("opt_state/") and name.endswith(f"/ema/{first}"):
            return name.removesuffix(first)
    raise UserError(f"{where}: no moving average of the parameters is stored (config.optim.ema)")


@contextlib.contextmanager
def _orbax_conditions() -> Iterator[None]:
    """No ambient mesh (google/orbax#3164: its helper operations fail), transfers allowed."""
    if not jax.sharding.get_abstract_mesh().empty:
        raise RuntimeError("save and restore outside of `jax.set_mesh`: enter it around the step")
    with jax.transfer_guard("allow"):
        yield


def _rss() -> str:
    """Host memory of this process; saving needs a copy of the state in it."""
    size = host_memory.resident()
    return "unknown" if size is None else f"{size / 2**30:.2f} GiB"
