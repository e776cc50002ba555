"""What a step would take on hardware that is not there: one `Plan` for one config and target."""

import dataclasses
import importlib.metadata
import logging
import math

import jax
from jax.sharding import AbstractMesh
from ml_collections import ConfigDict

from maskjax import build
from maskjax.data_parts import example_batch
from maskjax.errors import UserError
from maskjax.observe.flops import peak_flops
from maskjax.plan import target as targets
from maskjax.plan.axes import indivisible
from maskjax.plan.collectives import totals
from maskjax.plan.compile import OutOfMemoryError, compile_step, planned, tree_bytes
from maskjax.plan.estimate import activation_bytes
from maskjax.plan.flops import counted_flops
from maskjax.plan.hardware import Hardware, offered, valid_names
from maskjax.plan.ideal import Traffic, ideal_traffic
from maskjax.train import sharding

log = logging.getLogger(__name__)

COMPILED = "compiled by the target's own compiler"
ESTIMATED = "estimated from the traced program, without the target's compiler"
# The share of the memory that a step may take. TPU: the compiler itself decides. GPU: kernels are
# chosen on the device, and NCCL keeps buffers of its own.
_USABLE = {"tpu": 1.0, "gpu": 0.9}
# How far off the estimate of activations may be, as a factor either way (see docs/scale.md).
ESTIMATE_FACTOR = 1.5


@dataclasses.dataclass(frozen=True)
class Plan:
    """One config on one target; None is what is not known, never a pass.

    Attributes:
        topology, device_kind, num_devices: the target.
        mesh: {axis: size}.
        how: `COMPILED` or `ESTIMATED`.
        batch: examples of a step; accumulate: in so many parts; remat: of the config.
        num_parameters: of the whole model.
        parameter_bytes, optimizer_bytes, extra_bytes, batch_bytes: on one device. What the method
            keeps beside its parameters (teachers, queues) is extra.
        activation_bytes: everything else at the fullest moment, on one device.
        peak_bytes: all together, with the padding of the device's tiles if compiled.
        usable_bytes: of one device.
        fits: whether the peak is below that.
        flops: of one step over the whole batch by the method's formula: matmuls, forward and
            backward, nothing twice; 0 = it has none.
        counted_flops: the same in XLA's count of all operations.
        images_per_second: of all devices, at `mfu` of their peak rate.
        collectives: [(kind, dtype, executions, bytes)] of one step and device, each array as it is
            when whole.
        ideal: what parameters and gradients alone would move.
        indivisible: what stays whole along a mesh axis that was meant to shard it.
        variants: executables that the run compiles; this plan is of the first step's.
        error: of the compiler, "" without one.
        seconds: of tracing and compiling.
        versions: {package: version}.
    """

    topology: str
    device_kind: str
    num_devices: int
    mesh: dict[str, int]
    how: str
    batch: int
    accumulate: int
    remat: str
    num_parameters: int
    parameter_bytes: int
    optimizer_bytes: int
    extra_bytes: int
    batch_bytes: int
    activation_bytes: int | None
    peak_bytes: int | None
    usable_bytes: int
    fits: bool | None
    flops: float
    counted_flops: float | None
    mfu: float
    images_per_second: float | None
    collectives: list[tuple[str, str, int, int]] | None
    ideal: Traffic
    indivisible: list[str]
    variants: int
    error: str
    seconds: float
    versions: dict[str, str]

    def to_json(self) -> dict:
        """Everything as JSON values."""
        return dataclasses.asdict(self)


def make_plan(
    config: ConfigDict,
    hardware: Hardware,
    *,
    num_examples: int,
    mfu: float = 0.4,
    compiler: bool | None = None,
    count_flops: bool = True,
) -> Plan:
    """The plan of a config on a target.

    Args:
        config: resolved, with its mesh.
        hardware: the target.
        num_examples: of the training set; only the length of the run depends on it.
        mfu: share of the peak rate that the step is taken to reach, 0..1.
        compiler: whether to compile for the target; None = if its compiler is installed.
        count_flops: whether XLA counts them as well (a few seconds).

    Raises:
        UserError: for a config that does not fit the mesh, no such slice, or a compiler that is not
            there.
    """
    if compiler is None:
        compiler = not targets.missing(hardware.name)
    if not compiler and not offered(hardware.name):  # a compiler says itself what it takes
        raise UserError(f"--topology={hardware.name}: there is no such slice\n{valid_names()}")
    parts = abstract_experiment(config, hardware, num_examples)
    found = _compiled(config, hardware, num_examples) if compiler else _estimated(parts, hardware)
    state = parts.abstract_state
    flops = parts.method.step_flops * config.data.global_batch
    counted = _counted(config) if count_flops else None
    return Plan(
        topology=hardware.name,
        device_kind=hardware.device_kind,
        num_devices=hardware.num_devices,
        mesh=dict(parts.mesh.shape),
        how=COMPILED if compiler else ESTIMATED,
        batch=config.data.global_batch,
        accumulate=config.train.accumulate,
        remat=config.model.get("remat", "none"),
        num_parameters=sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        parameter_bytes=tree_bytes(state.params),
        optimizer_bytes=tree_bytes(state.opt_state),
        extra_bytes=tree_bytes(state.extra),
        batch_bytes=_batch_bytes(config, parts.mesh),
        usable_bytes=int(hardware.memory * _USABLE[hardware.platform]),
        flops=flops,
        counted_flops=counted,
        mfu=mfu,
        images_per_second=images_per_second(config, hardware, flops or counted or 0.0, mfu),
        ideal=ideal_traffic(state.params, parts.mesh, compute_bytes=_compute_bytes(config)),
        indivisible=[str(one) for one in indivisible(state.params)],
        variants=_variants(parts),
        versions=versions(hardware.platform if compiler else ""),
        **found,
    )


def abstract_experiment(
    config: ConfigDict, hardware: Hardware, num_examples: int
) -> build.Experiment:
    """The experiment over a mesh without devices: shapes and shardings; its step can be traced.

    Raises:
        UserError: as `build.experiment`.
    """
    mesh = sharding.abstract_mesh(dict(config.mesh), hardware.num_devices)
    alone = config.copy_and_resolve_references()
    alone.mesh.update(dict.fromkeys(alone.mesh, 1))
    if alone.model.get("scan") == "auto":
        alone.model.scan = "on"
    parts = build.experiment(alone, num_examples, jax.devices("cpu")[:1])
    state = jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        parts.abstract_state,
        sharding.param_shardings(parts.abstract_state, mesh),
    )
    return dataclasses.replace(parts, config=config, mesh=mesh, abstract_state=state)


def images_per_second(
    config: ConfigDict, hardware: Hardware, step_flops: float, mfu: float
) -> float | None:
    """Of all devices at `mfu` of their peak; None if the peak or the work is not known."""
    peak = peak_flops(hardware.device_kind, config.model.get("dtype", "float32"))
    if not peak or not step_flops:
        return None
    return mfu * peak * hardware.num_devices * config.data.global_batch / step_flops


def versions(platform: str = "") -> dict[str, str]:
    """What a result depends on: jax, and the compiler for a platform ("" = none was used)."""
    compilers = {"tpu": ("libtpu",), "gpu": ("jax-cuda12-pjrt",)}
    names = ("jax", "jaxlib", *compilers.get(platform, ()))
    return {name: importlib.metadata.version(name) for name in names}


def _compiled(config: ConfigDict, hardware: Hardware, num_examples: int) -> dict:
    """The fields of a `Plan` that come from compiling."""
    target = targets.target(hardware.name)
    unknown = {"activation_bytes": None, "peak_bytes": None, "collectives": None, "seconds": 0.0}
    try:
        parts = build.experiment(planned(config, target), num_examples, target.devices)
        step = compile_step(parts, target)
    except OutOfMemoryError as error:
        return {**unknown, "fits": False, "error": str(error)}
    except jax.errors.JaxRuntimeError as error:
        return {**unknown, "fits": None, "error": str(error).partition("\n")[0]}
    sums = None if step.collectives is None else totals(step.collectives)
    usable = hardware.memory * _USABLE[hardware.platform]
    return {
        "activation_bytes": step.memory.peak - step.memory.arguments,
        "peak_bytes": step.memory.peak,
        "fits": step.memory.peak <= usable,
        "collectives": None if sums is None else [(*key, *value) for key, value in sums.items()],
        "error": "",
        "seconds": step.seconds,
    }


def _estimated(parts: build.Experiment, hardware: Hardware) -> dict:
    """The same fields from tracing and lowering alone: no collectives are known."""
    config, state, mesh = parts.config, parts.abstract_state, parts.mesh
    batch = example_batch(config, config.data.global_batch)
    traced = parts.step().trace(state, batch, parts.method.static(0))
    traced.lower(lowering_platforms=("tpu" if hardware.platform == "tpu" else "cuda",))
    shards = sharding.batch_shards(mesh)
    activations = activation_bytes(config, state, shards, hardware.platform)
    fixed = tree_bytes(state) + _batch_bytes(config, mesh)
    usable = hardware.memory * _USABLE[hardware.platform]
    return {
        "activation_bytes": activations,
        "peak_bytes": fixed + activations,
        "fits": _judge(fixed, activations, usable, mesh.shape["tensor"]),
        "collectives": None,
        "error": "",
        "seconds": 0.0,
    }


def _judge(fixed: int, activations: int, usable: float, tensor: int) -> bool | None:
    """Whether it fits even if the estimate is too low, does not even if too high, or None."""
    if fixed + activations * ESTIMATE_FACTOR <= usable:
        return True
    if fixed + activations / (ESTIMATE_FACTOR * tensor) > usable:
        return False
    return None


def _batch_bytes(config: ConfigDict, mesh: AbstractMesh) -> int:
    rows = example_batch(config, config.data.global_batch).values()
    whole = sum(math.prod(field.shape) * field.dtype.itemsize for field in rows)
    return whole // sharding.batch_shards(mesh)


def _compute_bytes(config: ConfigDict) -> int:
    return 2 if config.model.get("dtype") == "bfloat16" else 4


def _counted(config: ConfigDict) -> float | None:
    """XLA's count; None for a method that cannot be built with stacks of one layer."""
    try:
        return counted_flops(config)
    except (UserError, ValueError) as error:
        log.warning("the step's FLOPs were not counted: %s", error)
        return None


def _variants(parts: build.Experiment) -> int:
    return len({parts.method.static(step) for step in range(parts.schedule.total_steps)})
