"""What a compiled program moves between devices: kinds, bytes, and whose arrays they are."""

import collections
import dataclasses
import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from maskjax.plan.hlo import Instruction, Program, Shape, elements, shapes

KINDS = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-broadcast",
    "collective-permute",
    "ragged-all-to-all",
    "reduce-scatter",
)


@dataclasses.dataclass(frozen=True)
class Collective:
    """One exchange between devices.

    Attributes:
        kind: of `KINDS`.
        parts: the arrays: one, or more where the compiler combined several; each as it is when
            whole: the result of an all-gather, the operand of a reduce-scatter.
        executions: in one run of the program.
        group: how many devices exchange with each other.
        source: where in the traced program it comes from.
    """

    kind: str
    parts: tuple[Shape, ...]
    executions: int
    group: int
    source: str

    @property
    def dtype(self) -> str:
        """Of the largest part."""
        return max(self.parts, key=lambda part: part.bytes).dtype

    @property
    def bytes(self) -> int:
        """Of all parts and executions."""
        return self.executions * sum(part.bytes for part in self.parts)


class Total(NamedTuple):
    """Executions and bytes of several collectives in one step, per device."""

    executions: int
    bytes: int


def collectives(program: Program) -> list[Collective]:
    """Every collective of a program, those inside loops with all their turns.

    An overlapped collective of a TPU program is written down several times, once in each fusion of
    a chain that runs beside it; it is one here.
    """
    found: dict[tuple, Collective] = {}
    for instruction in program.instructions():
        kind = _kind(instruction)
        if kind is None:
            continue
        executions = program.executions[instruction.computation]
        one = _collective(instruction, kind, executions)
        key = (kind, *_chain(instruction))
        if key not in found or executions > found[key].executions:
            found[key] = one
    return list(found.values())


def totals(found: Iterable[Collective]) -> dict[tuple[str, str], Total]:
    """{(kind, dtype): executions and bytes}, most bytes first."""
    sums: dict[tuple[str, str], Total] = collections.defaultdict(lambda: Total(0, 0))
    for one in found:
        executions, size = sums[one.kind, one.dtype]
        sums[one.kind, one.dtype] = Total(executions + one.executions, size + one.bytes)
    return dict(sorted(sums.items(), key=lambda item: -item[1].bytes))


def bytes_of(found: Iterable[Collective], *kinds: str) -> int:
    """Bytes of the given kinds, of all without any."""
    return sum(one.bytes for one in found if not kinds or one.kind in kinds)


def foreign_gathers(
    found: Iterable[Collective], params: Sequence[tuple[int, ...]], times: int = 2
) -> list[Collective]:
    """All-gathers of anything but parameters: activations, masks, the batch.

    A gather counts as one of a parameter if it has as many values as a parameter or as one layer
    of a stacked parameter, and as long as parameters of that size are gathered no more than
    `times` each (once for the forward pass, once for the backward pass).

    Args:
        found: of one step.
        params: shapes of the parameters in one device's memory when gathered; stacked ones with
            their depth axis in front.
        times: how often a step may gather each parameter.
    """
    gathers = [one for one in found if one.kind == "all-gather"]
    budget: collections.Counter[int] = collections.Counter()  # {values of a layer: values allowed}
    for shape in params:
        whole = math.prod(shape)
        layer = whole // shape[0] if shape else 1
        sizes = {part.size for one in gathers for part in one.parts}
        budget[layer if layer in sizes else whole] += times * whole
    foreign = []
    for one in gathers:
        for part in one.parts:
            budget[part.size] -= part.size * one.executions
        if any(budget[part.size] < 0 for part in one.parts):
            foreign.append(one)
    return foreign


def _kind(instruction: Instruction) -> str | None:
    kind = instruction.opcode.removesuffix("-start")
    if kind == "all-reduce" and instruction.computation.startswith("all-reduce-scatter"):
        return "reduce-scatter"  # how TPU programs write it: a fusion around an all-reduce
    return kind if kind in KINDS else None


def _chain(instruction: Instruction) -> tuple[str, ...]:
    """What tells apart two collectives of a kind."""
    link = re.search(r'chain_id="(\d+)"', instruction.rest)
    if link:
        return ("chain", link[1])
    channel = re.search(r"channel_id=(\d+)", instruction.rest)
    if channel and instruction.computation.startswith("async_collective_fusion"):
        return ("channel", channel[1], instruction.type)
    return ("name", instruction.name)


def _collective(instruction: Instruction, kind: str, executions: int) -> Collective:
    group = group_size(instruction.rest)
    parts = _result(instruction)
    if instruction.opcode.startswith("reduce-scatter"):
        axis = re.search(r"dimensions=\{(\d+)\}", instruction.rest)
        parts = tuple(_times(part, int(axis[1]) if axis else 0, group) for part in parts)
    return Collective(kind, parts, executions, group, instruction.source)


def _result(instruction: Instruction) -> tuple[Shape, ...]:
    """The arrays that come out; a "-start" may carry operands and counters along."""
    members = elements(instruction.type)
    start = instruction.opcode.endswith("-start") and len(members) > 1
    if start and instruction.opcode != "all-reduce-start":
        return shapes(members[1])
    return instruction.shapes


def _times(shape: Shape, axis: int, factor: int) -> Shape:
    dims = list(shape.dims)
    dims[axis] *= factor
    return Shape(shape.dtype, tuple(dims))


def group_size(attributes: str) -> int:
    """Devices in one replica group, in any of the three ways that HLO writes them; else 1."""
    if found := re.search(r"replica_groups=\{\{([\d,]*)\}", attributes):
        return len(found[1].split(","))
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]<=", attributes):
        return int(found[1])
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", attributes):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", found[1]))
        # A part of an axis is written 'axis':(PRODUCT BEFORE)SIZE.
        axes = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", found[2])
        return math.prod(int(part or sizes[axis]) for axis, part in axes)
    return 1
