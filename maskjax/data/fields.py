"""What a transform returns, as the named arrays that one row of a batch is made of."""

from collections.abc import Mapping

import numpy as np

from maskjax.errors import UserError

# Filled in by the iterators.
RESERVED = ("label", "position", "id", "valid")

Fields = dict[str, np.ndarray]
# {field: (shape of one row, dtype)}
Shapes = dict[str, tuple[tuple[int, ...], np.dtype]]


def as_fields(made: np.ndarray | Mapping[str, np.ndarray], name: str = "?") -> Fields:
    """One row's fields: an array is the field "image", a dict has its own names.

    Args:
        made: what a transform returned.
        name: the id of the example, for the message.

    Raises:
        UserError: it is neither, is empty, or has a field that the iterators fill in.
    """
    if isinstance(made, np.ndarray):
        return {"image": made}
    if not isinstance(made, Mapping) or not made:
        raise UserError(
            f"the transform of example {name!r} must return an array or a dict of named arrays,"
            f" found {type(made).__name__}"
        )
    if taken := sorted(set(made) & set(RESERVED)):
        raise UserError(
            f"the transform of example {name!r} returns a field {taken[0]!r}; the iterators fill"
            f" in {', '.join(RESERVED)} themselves: take another name"
        )
    return {field: np.asarray(value) for field, value in made.items()}


def stack(rows: list[Fields], names: list[str]) -> Fields:
    """Rows {field: [...]} -> {field: [len(rows), ...]}.

    Args:
        rows: at least one.
        names: the id of each row's example, for the message.

    Raises:
        UserError: two rows differ in their fields, or in the shape or type of one.
    """
    first = _signature(rows[0])
    for row, name in zip(rows, names, strict=True):
        if (found := _signature(row)) != first:
            raise UserError(
                f"examples {names[0]!r} and {name!r} do not fit in one batch:"
                f" {_difference(first, found)}"
            )
    return {field: np.stack([row[field] for row in rows]) for field in first}


def _signature(row: Fields) -> dict[str, tuple]:
    return {field: (value.dtype, value.shape) for field, value in row.items()}


def _difference(one: dict[str, tuple], other: dict[str, tuple]) -> str:
    field = next(field for field in (one | other) if one.get(field) != other.get(field))
    kinds = (row.get(field) for row in (one, other))
    texts = ("absent" if kind is None else f"{kind[0]}{list(kind[1])}" for kind in kinds)
    return f"{field!r} is {' and '.join(texts)}"
