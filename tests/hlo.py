"""Reading compiled HLO: how many operations of a kind, and what shapes they produce."""

import re

COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-broadcast",
    "collective-permute",
    "ragged-all-to-all",
    "reduce-scatter",
)


def count(text: str, operation: str) -> int:
    """How often an operation stands in HLO text, in fused computations too."""
    return len(re.findall(rf" {operation}(?:-start)?\(", text))


def collectives(text: str) -> dict[str, int]:
    """{collective: how often it occurs}, without those that do not."""
    counts = {operation: count(text, operation) for operation in COLLECTIVES}
    return {operation: number for operation, number in counts.items() if number}


def result_shapes(text: str, operation: str) -> list[tuple[int, ...]]:
    """Shapes of all results of an operation; combined operations count once per part."""
    lines = re.findall(rf"= (.*?) {operation}(?:-start)?\(", text)
    found = [shape for line in lines for shape in re.findall(r"\w+\[([\d,]*)\]", line)]
    return [tuple(int(size) for size in shape.split(",") if size) for shape in found]
