"""What compiled HLO text holds: how many operations of a kind, and what shapes they produce."""

import collections as counters

from maskjax.plan import collectives as exchanges
from maskjax.plan.hlo import Program


def count(text: str, operation: str) -> int:
    """How often an operation stands in a program, in fused computations too."""
    return Program(text).count(operation)


def collectives(text: str) -> dict[str, int]:
    """{collective: how often it occurs}, without those that do not."""
    found = exchanges.collectives(Program(text))
    return dict(counters.Counter(one.kind for one in found))


def result_shapes(text: str, operation: str) -> list[tuple[int, ...]]:
    """Shapes of all arrays of a collective; combined operations count once per part."""
    found = exchanges.collectives(Program(text))
    return [part.dims for one in found if one.kind == operation for part in one.parts]
