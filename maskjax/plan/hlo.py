"""Reading compiled programs (HLO text): which operations there are and how often each runs."""

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Iterator

_BITS = {"pred": 8, "s4": 4, "u4": 4, "c64": 64, "c128": 128, "f8e4m3fn": 8, "f8e5m2": 8}
_BITS |= {f"{kind}{bits}": bits for kind in "suf" for bits in (8, 16, 32, 64)} | {"bf16": 16}
_SHAPE = re.compile(rf"\b({'|'.join(sorted(_BITS, key=len, reverse=True))})\[([\d,]*)\]")
_HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{\s*$")
_OPERATION = re.compile(r"\s*([a-z][\w\-]*)\((.*)")
# A while loop's condition is not followed: nothing of interest runs there.
_CALLED = re.compile(
    r"\b(?:body|calls|to_apply|true_computation|false_computation|async_computation)=%?([\w.\-]+)"
)
_BRANCHES = re.compile(r"\b(?:branch_computations|called_computations)=\{([^}]*)\}")


@dataclasses.dataclass(frozen=True)
class Shape:
    """An array's type, such as bf16[16,50,1024]."""

    dtype: str
    dims: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.dims)

    @property
    def bytes(self) -> int:
        """Memory without padding."""
        return -(-self.size * _BITS[self.dtype] // 8)

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.dims))}]"


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
        name: unique in the program, without "%".
        opcode: such as "all-gather-start".
        type: of the result, as written.
        rest: everything after the opening parenthesis: operands and attributes.
        computation: that it stands in.
        root: whether it is the result of its computation.
    """

    name: str
    opcode: str
    type: str
    rest: str
    computation: str
    root: bool

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Every array of the result."""
        return shapes(self.type)

    @property
    def source(self) -> str:
        """Where in the traced program it comes from, "" if that is not known."""
        found = re.search(r'op_name="([^"]*)"', self.rest)
        return found[1] if found else ""

    def called(self) -> list[str]:
        """Names of the computations it runs."""
        branches = [name for group in _BRANCHES.findall(self.rest) for name in group.split(",")]
        return _CALLED.findall(self.rest) + [name.strip().lstrip("%") for name in branches]


def shapes(type_text: str) -> tuple[Shape, ...]:
    """All arrays of a type, tuples flattened; layouts and tokens are left out."""
    return tuple(
        Shape(dtype, tuple(int(size) for size in dims.split(",") if size))
        for dtype, dims in _SHAPE.findall(type_text)
    )


def elements(type_text: str) -> list[str]:
    """The members of a tuple type, or the type itself."""
    if not type_text.startswith("("):
        return [type_text]
    depth, start, members = 0, 1, []
    for i, char in enumerate(type_text):
        depth += (char in "([{") - (char in ")]}")
        if (char == "," and depth == 1) or depth == 0:
            members.append(type_text[start:i].strip())
            start = i + 1
        if depth == 0:
            break
    return members


class Program:
    """A parsed module.

    Attributes:
        computations: {name: its instructions}.
        entry: name of the one that runs first.
        donated: how many results reuse the memory of an argument.
    """

    def __init__(self, text: str):
        """Parses what `compiled.as_text()` gives.

        Raises:
            ValueError: if there is no entry computation in it.
        """
        self.computations: dict[str, list[Instruction]] = {}
        entry = current = None
        for line in text.splitlines():
            if line.startswith("}"):
                current = None
            elif current is None and (header := _HEADER.match(line)):
                current = header[2]
                self.computations[current] = []
                entry = current if header[1] else entry
            elif current is not None and (found := _instruction(line, current)):
                self.computations[current].append(found)
        if entry is None:
            raise ValueError("not the text of a compiled program: it has no ENTRY computation")
        self.entry: str = entry
        self.donated = len(re.findall(r"\(\d+, \{[\d, ]*\}, (?:may|must)-alias\)", text))

    @functools.cached_property
    def executions(self) -> collections.Counter[str]:
        """{computation: how often one run of the program runs it}.

        Of a conditional every branch counts as taken, a loop without a known bound as one turn.
        """
        times: collections.Counter[str] = collections.Counter()

        def walk(name: str, turns: int):
            times[name] += turns
            for instruction in self.computations.get(name, ()):
                inner = turns
                if instruction.opcode == "while":
                    inner *= self.trips(instruction) or 1
                for callee in instruction.called():
                    walk(callee, inner)

        walk(self.entry, 1)
        return times

    def trips(self, loop: Instruction) -> int | None:
        """How many turns a while loop makes, None if the text does not say.

        CPU and GPU programs state it. TPU programs do not: there it is the constant that the
        condition compares the counter with (loops made by `lax.scan` count up from 0).
        """
        if stated := re.search(r'"known_trip_count":\s*\{"n":\s*"(\d+)"', loop.rest):
            return int(stated[1])
        condition = re.search(r"condition=%?([\w.\-]+)", loop.rest)
        body = self.computations.get(condition[1], []) if condition else []
        root = next((i for i in body if i.root), None)
        bounds = [
            int(i.rest.partition(")")[0])
            for i in body
            if i.opcode == "constant"
            and i.type.startswith("s32[]")
            and root is not None
            and re.search(rf"%?{re.escape(i.name)}\b", root.rest)
        ]
        return bounds[0] if len(bounds) == 1 else None

    def instructions(self) -> Iterator[Instruction]:
        """All that run at least once."""
        for name, body in self.computations.items():
            if self.executions[name]:
                yield from body

    def count(self, opcode: str) -> int:
        """How many instructions of a kind there are, in fused computations too."""
        kinds = (opcode, f"{opcode}-start")
        return sum(instruction.opcode in kinds for instruction in self.instructions())

    def unknown_loops(self) -> list[Instruction]:
        """Loops whose number of turns is not known; what is in them is counted once."""
        loops = (i for i in self.instructions() if i.opcode == "while")
        return [loop for loop in loops if self.trips(loop) is None]


def _instruction(line: str, computation: str) -> Instruction | None:
    name, equals, right = line.strip().partition(" = ")
    if not equals:
        return None
    type_text, rest = _split_type(right)
    operation = _OPERATION.match(rest)
    if operation is None:
        return None
    root = name.startswith("ROOT ")
    name = name.removeprefix("ROOT ").lstrip("%")
    return Instruction(name, operation[1], type_text, operation[2], computation, root)


def _split_type(text: str) -> tuple[str, str]:
    """ "TYPE opcode(...)" -> (TYPE, the rest)."""
    if not text.startswith("("):
        type_text, _, rest = text.partition(" ")
        return type_text, rest
    depth = 0
    for i, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if depth == 0:
            return text[: i + 1], text[i + 1 :]
    return text, ""
