"""Compare golden files with what this project computes from their inputs.

    python tests/golden.py FILE.npz ... [--adapter NAME]

A golden file holds what a reference implementation was given and what it computed. The adapter
(tests/adapters/NAME.py; by default the longest name that the file's stem starts with) has

    INPUTS    fnmatch patterns of the keys it may see
    outputs   (given: {key: array}) -> {key: array}, every other key of the file; more is ignored
    LOOSER    optional {key: (relative bound, reason)}

Keys that match no pattern of INPUTS are withheld and must be returned: what is not covered fails.
Floats must agree to |a - b| <= 1e-4 * max(std(b), max|b|) + 1e-7, with b the reference and equal
places of what is not finite; integers, booleans and text exactly. Text that is JSON on both sides
is compared parsed: structure, text, integers and booleans exactly, each float by the rule above.

Exit code: 0 all agree, 1 something is off or uncovered, 2 the question cannot be asked.
"""

import argparse
import fnmatch
import importlib
import json
import math
import os
import sys
import time
import traceback
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

RELATIVE, ABSOLUTE = 1e-4, 1e-7
# Results, under every name they have been given: these can never be inputs.
RESULTS = ("output/*", "grad*/*", "sched*/lr", "*/loss", "*/loss_*")
ADAPTERS = Path(__file__).parent / "adapters"

Arrays = Mapping[str, np.ndarray]


class GoldenError(Exception):
    """The comparison cannot be made: no file, no adapter, or an adapter that asks for results."""


class Given(dict):
    """{key: array} of the inputs.

    Attributes:
        withheld: names (not values) of the keys that are asked for; some carry a size.
    """

    def __init__(self, arrays: Arrays, withheld: Iterable[str]):
        super().__init__(arrays)
        self.withheld = tuple(withheld)


class Row(NamedTuple):
    """How one key compares; error and allowed are absolute."""

    key: str
    shape: tuple[int, ...]
    error: float
    allowed: float
    ok: bool
    note: str = ""


class Report(NamedTuple):
    """The comparison of one file."""

    rows: list[Row]
    uncovered: list[str]

    @property
    def ok(self) -> bool:
        """Whether every key is covered and agrees."""
        return not self.uncovered and all(row.ok for row in self.rows)


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """All arrays of a golden file.

    Raises:
        GoldenError: if there is no such file or it is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except OSError as error:
        raise GoldenError(f"{path}: {error.strerror or 'is no .npz file'}") from None
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise GoldenError(f"{path} is no whole .npz file: {error}") from None


def adapter_names() -> list[str]:
    """The adapters there are."""
    return sorted(p.stem for p in ADAPTERS.glob("*.py") if not p.stem.startswith("_"))


def adapter_for(stem: str) -> str | None:
    """The longest adapter name that the file's stem starts with."""
    return max((n for n in adapter_names() if stem.startswith(n)), key=len, default=None)


def load_adapter(name: str) -> ModuleType:
    """The adapter's module.

    Raises:
        GoldenError: if there is none of that name.
    """
    if name not in adapter_names():
        raise GoldenError(f"no adapter {name!r}; adapters: {', '.join(adapter_names())}")
    if str(ADAPTERS.parent) not in sys.path:
        sys.path.insert(0, str(ADAPTERS.parent))
    return importlib.import_module(f"adapters.{name}")


def is_result(key: str) -> bool:
    """Whether a key (or a pattern of keys) names a result."""
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in RESULTS)


def divide(arrays: Arrays, inputs: Iterable[str]) -> tuple[Given, dict[str, np.ndarray]]:
    """What the adapter may see, and what it must return.

    Raises:
        GoldenError: if a pattern of the inputs lets a result through.
    """
    seen: dict[str, np.ndarray] = {}
    for pattern in inputs:
        matched = {key: arrays[key] for key in fnmatch.filter(arrays, pattern)}
        results = [key for key in (pattern, *matched) if is_result(key)]
        if results:
            raise GoldenError(f"INPUTS pattern {pattern!r} asks for a result: {results[-1]}")
        seen |= matched
    expected = {key: array for key, array in arrays.items() if key not in seen}
    return Given(seen, expected), expected


def check(arrays: Arrays, adapter: Any) -> Report:
    """Runs an adapter on a file's inputs and compares all it owes.

    Raises:
        GoldenError: for an adapter that asks for results, or a bound without a reason.
    """
    looser = getattr(adapter, "LOOSER", {})
    for key, (_, reason) in looser.items():
        if not reason.strip():
            raise GoldenError(f"LOOSER[{key!r}] needs its reason")
    given, expected = divide(arrays, adapter.INPUTS)
    found = adapter.outputs(given)
    rows = [
        compare(key, found[key], expected[key], *looser.get(key, (RELATIVE, "")))
        for key in expected
        if key in found
    ]
    return Report(rows, [key for key in expected if key not in found])


def compare(
    key: str, found: Any, expected: np.ndarray, relative: float = RELATIVE, reason: str = ""
) -> Row:
    """One key, by the rule at the top of this file."""
    found = np.asarray(found)
    if found.shape != expected.shape:
        note = f"the shape is {found.shape}"
        return Row(key, expected.shape, math.inf, 0, False, note)
    if expected.dtype.kind in "US":
        return _compare_text(key, str(found), str(expected))
    if expected.dtype.kind in "fc":
        error, allowed = _float_error(found, expected, relative)
        return Row(key, expected.shape, error, allowed, error <= allowed, reason)
    same_kind = (found.dtype.kind == "b") == (expected.dtype.kind == "b")
    if not same_kind or found.dtype.kind not in "biu":
        note = f"the type is {found.dtype}, not {expected.dtype}"
        return Row(key, expected.shape, math.inf, 0, False, note)
    error = np.abs(found.astype(np.int64) - expected.astype(np.int64)).max(initial=0)
    return Row(key, expected.shape, float(error), 0, not error)


def _float_error(found: np.ndarray, expected: np.ndarray, relative: float) -> tuple[float, float]:
    """Largest error and the allowed one; NaN and infinities must stand at the same places."""
    if found.dtype.kind in "USO":
        return math.inf, 0
    wide = np.complex128 if expected.dtype.kind == "c" else np.float64
    a, b = found.astype(wide), expected.astype(wide)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return math.inf, 0
    a, b = a[finite], b[finite]
    spread = max(float(b.std()), float(np.abs(b).max())) if b.size else 0.0
    error = float(np.abs(a - b).max(initial=0))
    # A NaN of ours would compare false everywhere; call it what it is.
    return math.inf if math.isnan(error) else error, relative * spread + ABSOLUTE


def _compare_text(key: str, found: str, expected: str) -> Row:
    if found == expected:
        return Row(key, (), 0, 0, True)
    try:
        pairs = list(_leaves("", json.loads(found), json.loads(expected)))
    except (json.JSONDecodeError, GoldenError) as error:
        note = str(error) if isinstance(error, GoldenError) else "the text differs"
        return Row(key, (), math.inf, 0, False, note)
    errors = [(*_float_error(np.asarray(a), np.asarray(b), RELATIVE), path) for path, a, b in pairs]
    error, allowed, path = max(errors, key=lambda e: e[0] - e[1], default=(0.0, 0.0, ""))
    return Row(key, (), error, allowed, error <= allowed, f"JSON, worst at {path}" if path else "")


def _leaves(path: str, found: Any, expected: Any) -> Iterator[tuple[str, float, float]]:
    """Pairs of floats at the same place of two JSON values.

    Raises:
        GoldenError: where the values differ in anything but a float.
    """
    if isinstance(expected, float) and isinstance(found, float):
        yield path, found, expected
    elif isinstance(expected, dict) and isinstance(found, dict) and set(found) == set(expected):
        for name in expected:
            yield from _leaves(f"{path}/{name}", found[name], expected[name])
    elif isinstance(expected, list) and isinstance(found, list) and len(found) == len(expected):
        for i, (a, b) in enumerate(zip(found, expected, strict=True)):
            yield from _leaves(f"{path}/{i}", a, b)
    elif type(found) is not type(expected) or found != expected:
        raise GoldenError(f"JSON differs at {path or '/'}")


def show(report: Report):
    """Prints the table and what is not covered."""
    width = max((len(row.key) for row in report.rows), default=3)
    print(f"{'key':{width}}  {'shape':>16}  {'max abs error':>13}  {'allowed':>9}  ok")
    for key, shape, error, allowed, ok, note in report.rows:
        size = "x".join(map(str, shape)) or "-"
        verdict = ("yes" if ok else "NO") + (f"  ({note})" if note else "")
        print(f"{key:{width}}  {size:>16}  {error:13.3g}  {allowed:9.3g}  {verdict}")
    if report.uncovered:
        print("uncovered:", *report.uncovered, sep="\n  ")


def run(path: str, name: str | None) -> int:
    """Compares and prints one file; the exit code.

    Raises:
        GoldenError: if it cannot be compared.
    """
    began, arrays = time.monotonic(), read(path)
    name = name or adapter_for(Path(path).stem)
    if name is None:
        raise GoldenError(f"{path}: no adapter fits the name; give one of {adapter_names()}")
    print(f"== {path} (adapter {name})")
    try:
        report = check(arrays, load_adapter(name))
    except GoldenError:
        raise
    except Exception:  # whatever a broken adapter raises must not hide the other files
        traceback.print_exc()
        print(f"{path}: the adapter {name} failed; nothing of the file is covered")
        return 1
    show(report)
    off = sum(not row.ok for row in report.rows)
    seconds = time.monotonic() - began
    counts = f"{len(report.rows)} compared, {off} off, {len(report.uncovered)} uncovered"
    print(f"{'ok' if report.ok else 'FAILED'}: {path}: {counts}, {seconds:.1f} s\n", flush=True)
    return 0 if report.ok else 1


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", metavar="FILE.npz")
    names = ", ".join(adapter_names())
    parser.add_argument("--adapter", metavar="NAME", help=f"default: by the file's name; {names}")
    options = parser.parse_args(argv)
    worst = 0
    for path in options.files:
        try:
            code = run(path, options.adapter)
        except GoldenError as error:
            print(f"golden.py: {error}", file=sys.stderr)
            code = 2
        worst = max(worst, code)
    return worst


if __name__ == "__main__":
    # The references are float32 on a CPU; elsewhere matmuls would round more than the bound.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
    # The cache of the test suite (tests/conftest.py): compiling takes most of the time.
    cache = Path(__file__).resolve().parents[1] / ".cache" / "jax-tests"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    sys.exit(main())
