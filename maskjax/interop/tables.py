"""Check the fixed position tables of a file against the ones we regenerate."""

import numpy as np

from maskjax.interop.rules import Constant

TOLERANCE = 1e-5


def check_table(rule: Constant, array: np.ndarray) -> tuple[bool, str]:
    """Compare a file's table with the regenerated one.

    A table of another number of rows is accepted when it is the same kind of table for another
    grid: it is no parameter, so the model makes the one for its own grid.

    Args:
        rule: The constant.
        array: The file's tensor, of any float type.

    Returns:
        Whether the table fits, and a sentence: what is wrong when it does not fit, a note for the
        report (or nothing) when it does.
    """
    table = rule.table()
    if array.shape == table.shape:
        return _check_values(rule, array, table)
    for grid in _other_grids(rule, array, table):
        if _equal(array, rule.table(grid)):
            rows, columns = grid
            own = "x".join(map(str, rule.grid))
            return True, (
                f"{rule.theirs} is the fixed table of a {rows}x{columns} grid; "
                f"the model regenerates it for {own}"
            )
    return False, (
        f"{rule.theirs} is {array.shape} in the file, and no fixed sin-cos table; the model needs "
        f"{table.shape}. {_advice()}"
    )


def _check_values(rule: Constant, array: np.ndarray, table: np.ndarray) -> tuple[bool, str]:
    if _equal(array, table):
        return True, ""
    worst = np.max(np.abs(np.asarray(array, np.float32) - table))
    rows, columns = rule.grid
    return False, (
        f"{rule.theirs} differs by up to {worst:.2g} from the fixed sin-cos table of a "
        f"{rows}x{columns} grid: the file has another or a trained table. {_advice()}"
    )


def _advice() -> str:
    return (
        "For a trained table build the model with position='learned'; "
        "for another image shape or patch size give the model the file's."
    )


def _equal(array: np.ndarray, table: np.ndarray) -> bool:
    """Within 1e-5, or within the rounding of the file's type; values are in -1..1."""
    rounding = 2.0 ** -_mantissa_bits(array.dtype)
    difference = np.abs(np.asarray(array, np.float32) - table)
    return bool(np.all(difference <= max(TOLERANCE, rounding)))


def _mantissa_bits(dtype: np.dtype) -> int:
    return {"bfloat16": 8, "float16": 11}.get(dtype.name, 23)


def _other_grids(rule: Constant, array: np.ndarray, table: np.ndarray) -> list[tuple[int, int]]:
    """Grids of at least 2x2 with as many patches as the file's table, square ones first."""
    if array.ndim != table.ndim or array.shape[-1] != table.shape[-1]:
        return []
    extra = table.shape[-2] - rule.grid[0] * rule.grid[1]  # rows in front: the cls row or none
    patches = array.shape[-2] - extra
    grids = [(r, patches // r) for r in range(2, patches // 2 + 1) if patches % r == 0]
    return sorted(grids, key=lambda grid: abs(grid[0] - grid[1]))
