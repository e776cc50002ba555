"""Compiles the training step of an experiment for a target, and says what came out."""

import dataclasses
import functools
import math
import re
import time

import jax
from jax.stages import Compiled
from ml_collections import ConfigDict

from maskjax import build
from maskjax.data_parts import example_batch
from maskjax.errors import UserError
from maskjax.method import Tree
from maskjax.plan.collectives import Collective, collectives
from maskjax.plan.hlo import Program
from maskjax.plan.target import GIB, Target

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": GIB, "T": 2**40}
# What the TPU compiler says; the second form is that of older versions.
_OUT_OF_MEMORY = (
    r"\((?P<needed>[\d.]+)(?P<unit>[KMGT]?)\) exceeds available HBM"
    r" \((?P<available>[\d.]+)(?P<unit2>[KMGT]?)\)",
    r"Used (?P<needed>[\d.]+)(?P<unit>[KMGT]?) of (?P<available>[\d.]+)(?P<unit2>[KMGT]?) hbm",
)


class OutOfMemoryError(UserError):
    """The program does not fit into a device.

    Attributes:
        needed, available: bytes of one device. The compiler gives up on an oversized program
            early: `needed` tells that it does not fit, not what a fitting one would take.
    """

    def __init__(self, needed: int, available: int):
        super().__init__(
            f"does not fit: the step needs {needed / GIB:.2f} GiB per device,"
            f" {available / GIB:.2f} GiB are there; try config.model.remat=dots or full,"
            " config.mesh.fsdp, a smaller config.data.global_batch or config.train.accumulate"
        )
        self.needed, self.available = needed, available


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes per device.

    Attributes:
        arguments: train state and batch, with the padding of the device's tiles.
        results: new state and metrics.
        reused: results that take the memory of an argument (donation).
        temporaries: activations and everything else that is neither.
        peak: what must stay below the memory of the device.
        code: of the program itself.
    """

    arguments: int
    results: int
    reused: int
    temporaries: int
    peak: int
    code: int


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """One training step, compiled and not run.

    Attributes:
        compiled: what jax made.
        target: that it is for.
        memory: of each device.
        state_bytes: of the train state on one device, without padding.
        num_leaves: of the train state.
        seconds: of tracing, lowering and compiling.
    """

    compiled: Compiled = dataclasses.field(repr=False)
    target: Target
    memory: Memory
    state_bytes: int
    num_leaves: int
    seconds: float

    @property
    def fits(self) -> bool:
        """Whether the peak stays below the memory of a device."""
        return self.memory.peak <= self.target.memory

    @functools.cached_property
    def program(self) -> Program | None:
        """The parsed text, None where the compiler cannot write it (libtpu sometimes fails to)."""
        try:
            text = self.compiled.as_text()
        except jax.errors.JaxRuntimeError:
            return None
        return None if text is None else Program(text)

    @functools.cached_property
    def collectives(self) -> list[Collective] | None:
        """What it moves between devices, None where the text is not known."""
        return None if self.program is None else collectives(self.program)

    @property
    def donated(self) -> bool | None:
        """Whether every leaf of the new state takes the memory of an old one; None = not known."""
        return None if self.program is None else self.program.donated >= self.num_leaves


def planned(config: ConfigDict, target: Target) -> ConfigDict:
    """The config as it can be compiled for a target without its libraries.

    cuDNN is not there to be asked about its attention kernel, so that GPUs get plain attention for
    `model.attention = "auto"`: the memory is then an upper bound.
    """
    config = config.copy_and_resolve_references()
    on_gpu = target.devices[0].platform == "gpu"
    if on_gpu and config.model.get("attention") == "auto":
        config.model.attention = "einsum"
    return config


def compile_step(
    parts: build.Experiment, target: Target, options: dict[str, object] | None = None
) -> CompiledStep:
    """Compiles the step of `build.experiment(planned(config, target), size, target.devices)`.

    Args:
        parts: the experiment, over the devices of the target.
        target: where it would run.
        options: compiler options, over those that the target needs.

    Raises:
        OutOfMemoryError: if the compiler finds that it does not fit. The GPU compiler does not
            look; see `CompiledStep.fits`.
        UserError: if the batch does not divide over the mesh.
    """
    start = time.perf_counter()
    batch = example_batch(parts.config, parts.config.data.global_batch)
    lowered = parts.step().lower(parts.abstract_state, batch, parts.method.static(0))
    try:
        compiled = lowered.compile(compiler_options={**target.options, **(options or {})} or None)
    except jax.errors.JaxRuntimeError as error:
        raise out_of_memory(str(error)) or error from error
    leaves = jax.tree.leaves(parts.abstract_state)
    return CompiledStep(
        compiled,
        target,
        _memory(compiled),
        tree_bytes(parts.abstract_state),
        len(leaves),
        time.perf_counter() - start,
    )


def out_of_memory(message: str) -> OutOfMemoryError | None:
    """The error that a compiler's message describes, None if it is about something else."""
    for pattern in _OUT_OF_MEMORY:
        if found := re.search(pattern, message):
            needed = float(found["needed"]) * _UNITS[found["unit"]]
            available = float(found["available"]) * _UNITS[found["unit2"]]
            return OutOfMemoryError(int(needed), int(available))
    return None


def shard_bytes(leaf: jax.ShapeDtypeStruct) -> int:
    """Bytes of one device's part of a leaf, without padding."""
    return math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize


def _memory(compiled: Compiled) -> Memory:
    found = compiled.memory_analysis()
    return Memory(
        found.argument_size_in_bytes,
        found.output_size_in_bytes,
        found.alias_size_in_bytes,
        found.temp_size_in_bytes,
        found.peak_memory_in_bytes,
        found.generated_code_size_in_bytes,
    )


def tree_bytes(tree: Tree) -> int:
    """Bytes of one device's part of a tree of `jax.ShapeDtypeStruct`s with shardings."""
    return sum(map(shard_bytes, jax.tree.leaves(tree)))
