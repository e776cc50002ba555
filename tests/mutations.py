"""Make mistakes in the equations of methods on purpose, and see which check notices.

    python tests/mutations.py [--method NAME ...] [--kind NAME ...]

Every mistake of `mutation_table` is made in a copy of the project, alone. Then the method's golden
files and tests run there until one fails, goldens first. Prints a table for docs/methods.md. The
golden files are those of `make test`; without them the tests alone must notice.

Exit code: 0 all are noticed, 1 at least one is not, 2 a check does not pass as things are.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from mutation_table import CHECKS, MUTATIONS, Checks, Mutation

ROOT = Path(__file__).resolve().parents[1]
GOLDENS = ROOT.parent / "shared" / "golden"
COPIED = ("maskjax", "configs", "tests", "pyproject.toml")


def copy_project(folder: Path) -> Path:
    """A copy in which `maskjax` is imported from the copy, with the golden files beside it."""
    project = folder / "project"
    project.mkdir()
    for name in COPIED:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, project / name)
    (project / "maskjax" / "configs").symlink_to(project / "configs")
    if GOLDENS.is_dir():
        (folder / "shared").symlink_to(GOLDENS.parent)
    return project


def apply(project: Path, mutation: Mutation) -> str:
    """Makes the mistake; returns what the file was.

    Raises:
        ValueError: unless the text occurs once.
    """
    path = project / "maskjax" / mutation.file
    text = path.read_text()
    if text.count(mutation.old) != 1:
        raise ValueError(f"{mutation.old!r} occurs {text.count(mutation.old)} times in {path}")
    path.write_text(text.replace(mutation.old, mutation.new))
    return text


class Failure(NamedTuple):
    """A pytest id that failed, and the golden key that was off, if it was one."""

    test: str
    key: str

    def __str__(self) -> str:
        name = self.test.removeprefix("tests/")
        return f"`{name}`" + (f", `{self.key}`" if self.key else "")


def checks_of(checks: Checks) -> list[str]:
    """Their pytest names, goldens first."""
    goldens = [f"tests/test_golden.py::test_file[{name}.npz]" for name in checks.goldens]
    return (goldens if GOLDENS.is_dir() else []) + [f"tests/{name}" for name in checks.tests]


def first_failure(project: Path, names: list[str]) -> Failure | None:
    """The first of these tests that fails; None if all pass.

    Raises:
        RuntimeError: if they cannot run.
    """
    options = ["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "--durations=0"]
    cache = str(ROOT / ".cache" / "jax-tests")
    # Every mistake is a new program: most of the time would go into optimising it.
    environment = {**os.environ, "PYTHONPATH": str(project), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    environment.setdefault("JAX_COMPILATION_CACHE_DIR", cache)
    command = [sys.executable, "-m", "pytest", *options, *names]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    if done.returncode == 0:
        return None
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    if done.returncode != 1 or not found:
        raise RuntimeError(done.stdout[-3000:] + done.stderr[-3000:])
    off = re.search(r"(output\S*|\w+/\S+|\w+) +\S+ +\S+ +\S+  NO", done.stdout)
    return Failure(found[1], off[1] if off else "")


def outcome(project: Path, mutation: Mutation) -> Failure | None:
    """Which check notices the mistake; the project is as it was afterwards."""
    before = apply(project, mutation)
    try:
        return first_failure(project, checks_of(CHECKS[mutation.method]))
    finally:
        (project / "maskjax" / mutation.file).write_text(before)


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--method", nargs="*", choices=CHECKS, default=list(CHECKS))
    kinds = sorted({mutation.kind for mutation in MUTATIONS})
    parser.add_argument("--kind", nargs="*", choices=kinds, default=kinds)
    options = parser.parse_args(argv)
    wanted = [m for m in MUTATIONS if m.method in options.method and m.kind in options.kind]
    survivors, sound = 0, set()
    with tempfile.TemporaryDirectory() as folder:
        project = copy_project(Path(folder))
        print("| method | kind | mistake | noticed by |\n|---|---|---|---|", flush=True)
        for mutation in wanted:
            found = outcome(project, mutation)
            # A check that fails anyway notices nothing.
            if found and found.test not in sound and first_failure(project, [found.test]):
                print(f"mutations.py: {found.test} fails without any mistake", file=sys.stderr)
                return 2
            sound |= {found.test} if found else set()
            survivors += not found
            row = (mutation.method, mutation.kind, mutation.what, str(found or "NOTHING"))
            print("|", " | ".join(row), "|", flush=True)
    print(f"\n{len(wanted)} mistakes, {survivors} not noticed", flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
