"""From a resolved config to the parts of a run; every command starts here."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import Mesh
from ml_collections import ConfigDict

from maskjax.data.examples import require_on_error
from maskjax.data_parts import data_source, example_batch, train_transform
from maskjax.errors import UserError
from maskjax.evaluate.evaluators import NEED_LABELS, check_names
from maskjax.evaluate.features import POOLS
from maskjax.masking import Draws
from maskjax.method import Batch, Method, Schedule, Tree, build_method, require, with_tract
from maskjax.nn.families import AnyGeometry
from maskjax.observe.files import with_tuples
from maskjax.options import for_platform
from maskjax.train import fill, optim, sharding
from maskjax.train import guard as guards
from maskjax.train.feed import to_devices
from maskjax.train.retention import Retention
from maskjax.train.state import TrainState, create_state
from maskjax.train.step import Shardings, StepFn, make_train_step

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A run before its first step: checked, sharded, not yet compiled.

    Attributes:
        config: the resolved config.
        method: what is trained.
        schedule: length of the run.
        optimizers: {name: optax transformation}.
        learning_rate: step -> learning rate.
        mesh: over all devices.
        abstract_state: shapes, dtypes and shardings of the state.
    """

    config: ConfigDict
    method: Method
    schedule: Schedule
    optimizers: dict[str, optax.GradientTransformation]
    learning_rate: Callable[[Array], Array]
    mesh: Mesh
    abstract_state: TrainState

    def init(self) -> TrainState:
        """The state at step 0, born sharded."""
        shardings = jax.tree.map(lambda leaf: leaf.sharding, self.abstract_state)
        with jax.set_mesh(self.mesh):
            return jax.jit(self._create, out_shardings=shardings)(_init_key(self.config))

    def start(self) -> TrainState:
        """The state a new run begins with: `init`, with weights from `config.init_from` if named,
        and the teachers of the method.

        Raises:
            UserError: if the file does not fit the model.
        """
        return fill.fill(self.init(), self.method, self.config, geometry_of_run)

    def check_init(self):
        """Checks the files that `start` reads, without touching a device.

        Raises:
            UserError: if one does not fit the model.
        """
        fill.check(self.abstract_state, self.method, self.config, geometry_of_run)

    def _create(self, key: Array) -> TrainState:
        example = zeros(example_batch(self.config, 1))
        return _new_state(self.config, self.method, self.optimizers, key, example)

    def parameter_table(self) -> str:
        """Every parameter: path, shape, group, learning-rate multiplier, weight decay; totals."""
        rules = optim.param_rules(self.config.optim, self.method.groups, self.method.layers)
        return rules.table(self.abstract_state.params)

    def step(self) -> StepFn:
        """The jitted training step on the mesh.

        Raises:
            UserError: unless the global batch divides over the mesh and the micro-batches.
        """
        _check_batch(self.config, self.mesh, self.method.together)
        shardings = jax.tree.map(lambda leaf: leaf.sharding, self.abstract_state)
        config = self.config
        return make_train_step(
            self.method,
            self.optimizers,
            accumulate=config.train.accumulate,
            shardings=Shardings(self.mesh, shardings, sharding.batch_sharding(self.mesh)),
            seed=config.seed,
            max_skipped=config.train.max_skipped,
        )

    def watch(self) -> guards.Watch | None:
        """What looks at the guard of the step, None if it has none."""
        limit = self.config.train.max_skipped
        leaves = guards.gradient_leaves(self.method, self.abstract_state.params)
        return guards.Watch(limit, leaves) if limit else None

    def check_step(self):
        """Traces one step without compiling it, so that shape errors come before a long compile.

        Raises:
            UserError: naming what does not fit.
        """
        _check_batch(self.config, self.mesh, self.method.together)
        batch = example_batch(self.config, self.config.data.global_batch)
        step = make_train_step(
            self.method,
            self.optimizers,
            accumulate=self.config.train.accumulate,
            seed=self.config.seed,
            max_skipped=self.config.train.max_skipped,
        )
        jax.eval_shape(
            functools.partial(step, static=self.method.static(0)), self.abstract_state, batch
        )


def experiment(config: ConfigDict, num_examples: int, devices: Any = None) -> Experiment:
    """Builds everything that a config describes, and checks it.

    Args:
        config: resolved.
        num_examples: size of the training set.
        devices: default all.

    Raises:
        UserError: naming the config path of the first entry that does not fit.
    """
    mesh = sharding.make_mesh(dict(config.mesh), devices)
    schedule = run_length(config, num_examples)
    example = example_batch(config, config.data.global_batch)
    model = for_platform(config.model.to_dict(), mesh.devices.flat[0].platform)
    method = build_method(config.method, model, example, schedule)
    if config.optim.tract:
        method = with_tract(method, config.optim.tract)
    optimizer, learning_rate = optim.build_optimizer(
        config.optim,
        total_steps=schedule.total_steps,
        steps_per_epoch=schedule.steps_per_epoch,
        global_batch=config.data.global_batch,
        method_groups=method.groups,
        layers=method.layers,
    )
    optimizers = {"main": optimizer}
    abstract = jax.eval_shape(
        lambda key: _new_state(config, method, optimizers, key, zeros(example_batch(config, 1))),
        _init_key(config),
    )
    shardings = sharding.param_shardings(abstract, mesh)
    abstract = jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        abstract,
        shardings,
    )
    return Experiment(config, method, schedule, optimizers, learning_rate, mesh, abstract)


def _new_state(config, method, optimizers, key: Array, example: Batch) -> TrainState:
    state = create_state(method, optimizers, key, example)
    guard = guards.new_guard(method, state.params) if config.train.max_skipped else {}
    return dataclasses.replace(state, guard=guard)


def run_length(config: ConfigDict, num_examples: int) -> Schedule:
    """Total steps and steps per epoch (fractional) of a run.

    Raises:
        UserError: unless exactly one of train.steps and train.epochs is positive.
    """
    batch = config.data.global_batch
    require(batch > 0, "data.global_batch", batch, "must be positive")
    steps_per_epoch = num_examples / batch
    steps, epochs = config.train.steps, config.train.epochs
    if (steps > 0) == (epochs > 0) or min(steps, epochs) < 0:
        raise UserError(
            f"config.train: set exactly one of steps (now {steps}) and epochs (now {epochs}) to"
            " more than 0"
        )
    return Schedule(steps or max(1, round(epochs * steps_per_epoch)), steps_per_epoch)


def geometry_of_run(resolved: Mapping[str, Any]) -> AnyGeometry | None:
    """The geometry of the model that a run trained, from its resolved config; None if unknown."""
    config = ConfigDict(with_tuples(dict(resolved)), convert_dict=True)
    schedule = run_length(config, 10**9)  # how long an epoch was does not matter any more
    example = example_batch(config, config.data.global_batch)
    method = build_method(config.method, config.model.to_dict(), example, schedule)
    try:
        return fill.own_geometry(method)
    except UserError:
        return None  # of a kind that no weights format knows: names and shapes decide


def check_settings(config: ConfigDict):
    """Checks the entries that a run reads late, so that it does not fail on them late.

    Raises:
        UserError: naming the config path.
    """
    keep, late = config.checkpoint, config.evaluate
    Retention(keep.every, keep.keep_last, keep.keep_every, tuple(keep.keep_best) or None)
    train_transform(config)
    counts = {
        "seed": config.seed,
        "data.workers": config.data.workers,
        "data.timeout": config.data.timeout,
        "train.log_every": config.train.log_every,
        "train.max_skipped": config.train.max_skipped,
        "evaluate.every": late.every,
        "profile.start": config.profile.start,
        "profile.steps": config.profile.steps,
        "processes.hang": config.processes.hang,
        "processes.data_ready": config.processes.data_ready,
    }
    for key, value in counts.items():
        require(value >= 0, key, value, "must not be negative")
    require_on_error(config.data.on_error, "config.data.on_error")
    require_on_error(late.on_error, "config.evaluate.on_error")
    share, views = config.data.bad_share, config.data.views
    require(0 <= share <= 1, "data.bad_share", share, "must be a share, 0 .. 1")
    divides = views > 0 and config.data.global_batch % views == 0
    require(divides, "data.views", views, "must be positive and divide data.global_batch")
    require(late.batch > 0, "evaluate.batch", late.batch, "must be positive")
    require(late.pool in POOLS, "evaluate.pool", late.pool, " or ".join(POOLS))
    check_names((*late.evaluators, *late.during))
    if late.every and late.during:
        labelled = "label" in data_source(config, "test")[0]
        fits = labelled or not NEED_LABELS & set(late.during)
        require(fits, "evaluate.during", tuple(late.during), "needs data with labels")


def jitted_predict(parts: Experiment) -> dict[str, Callable]:
    """The method's predict functions, jitted on the mesh.

    Each is (params, extra, batch, draws) -> {name: Array}: batch and draws hold this process's rows
    as numpy arrays, the results are global arrays with the batch in front, sharded like the batch.
    """
    rows = sharding.batch_sharding(parts.mesh)

    def on_mesh(fn: Callable) -> Callable:
        jitted = jax.jit(fn, out_shardings=rows)

        def call(params: Tree, extra: Tree, batch: Batch, draws: Draws) -> dict[str, Array]:
            positions = to_devices({"positions": draws.positions}, rows)
            draws = dataclasses.replace(draws, **positions)
            with jax.set_mesh(parts.mesh):
                return jitted(params, extra, to_devices(batch, rows), draws)

        return call

    return {name: on_mesh(fn) for name, fn in parts.method.predict.items()}


def _check_batch(config: ConfigDict, mesh: Mesh, together: int):
    shards = sharding.batch_shards(mesh) * max(1, config.train.accumulate) * together
    if config.data.global_batch <= 0 or config.data.global_batch % shards:
        groups = f" x the method's groups of {together}" if together > 1 else ""
        raise UserError(
            f"config.data.global_batch = {config.data.global_batch}: must be a positive multiple of"
            f" {shards} = batch shards of the mesh x config.train.accumulate{groups}"
        )


def zeros(batch: Batch) -> Batch:
    """Arrays of zeros with the shapes and dtypes of a batch."""
    return {name: jnp.zeros(leaf.shape, leaf.dtype) for name, leaf in batch.items()}


def _init_key(config: ConfigDict) -> Array:
    return jax.random.fold_in(jax.random.key(config.seed), 1)
