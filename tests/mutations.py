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
from collections.abc import Iterator
from pathlib import Path

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


def first_failure(project: Path, checks: Checks) -> str:
    """The name of the first check that fails; "" if all pass.

    Raises:
        RuntimeError: if the checks cannot run.
    """
    goldens = [f"tests/test_golden.py::test_file[{name}.npz]" for name in checks.goldens]
    tests = [f"tests/{name}" for name in checks.tests]
    names = (goldens if GOLDENS.is_dir() else []) + tests
    options = ["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "--durations=0"]
    cache = str(ROOT / ".cache" / "jax-tests")
    environment = {**os.environ, "PYTHONPATH": str(project)}
    environment.setdefault("JAX_COMPILATION_CACHE_DIR", cache)
    command = [sys.executable, "-m", "pytest", *options, *names]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    if done.returncode == 0:
        return ""
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    if done.returncode != 1 or not found:
        raise RuntimeError(done.stdout[-3000:] + done.stderr[-3000:])
    off = re.search(r"^(\S+) +\S+ +\S+ +\S+  NO", done.stdout, re.MULTILINE)
    return found[1].removeprefix("tests/") + (f" ({off[1]})" if off else "")


def outcomes(project: Path, chosen: list[Mutation]) -> Iterator[tuple[Mutation, str]]:
    """Every mistake with the check that notices it; "" = none does."""
    for mutation in chosen:
        before = apply(project, mutation)
        try:
            yield mutation, first_failure(project, CHECKS[mutation.method])
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
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        project = copy_project(Path(folder))
        for method in dict.fromkeys(mutation.method for mutation in wanted):
            if failed := first_failure(project, CHECKS[method]):
                print(f"mutations.py: {failed} fails without any mistake", file=sys.stderr)
                return 2
        print("| method | kind | mistake | noticed by |\n|---|---|---|---|", flush=True)
        for mutation, check in outcomes(project, wanted):
            survivors += not check
            noticed = f"`{check}`" if check else "NOTHING"
            row = (mutation.method, mutation.kind, mutation.what, noticed)
            print("|", " | ".join(row), "|", flush=True)
    print(f"\n{len(wanted)} mistakes, {survivors} not noticed", flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
