"""Who may import whom (pyproject.toml, [tool.importlinter]), and the size of files."""

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
LAYERS = next(c for c in SETTINGS["contracts"] if c["type"] == "layers")["layers"]
LINT = Path(sys.executable).with_name("lint-imports")
SOURCES = sorted(
    path for folder in ("maskjax", "configs", "tests") for path in (ROOT / folder).rglob("*.py")
)


def lint(folder: Path) -> subprocess.CompletedProcess:
    """The contracts of the project's pyproject.toml on the `maskjax` package in a folder."""
    if not LINT.exists():
        pytest.skip("import-linter is not installed (pip install -e .[dev])")
    return subprocess.run(
        [LINT, "--no-cache", "--config", ROOT / "pyproject.toml"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )


def test_the_floors_hold():
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout[done.stdout.find("Contracts") :]


@pytest.fixture(scope="module")
def hollow(tmp_path_factory):
    """A package with a module on every floor and no import between them."""
    package = tmp_path_factory.mktemp("hollow") / "maskjax"
    names = {name.strip(" ()") for layer in LAYERS for name in layer.split("|")}
    for name in (".", *names, "methods/mim"):
        (package / name).mkdir(parents=True, exist_ok=True)
        (package / name / "__init__.py").touch()
    for name in ("masking/a", "nn/a", "data/a", "train/a", "methods/mim/a", "methods/mim/b"):
        (package / f"{name}.py").touch()
    return package.parent


def test_the_hollow_package_passes(hollow):
    done = lint(hollow)
    assert done.returncode == 0, done.stdout


BREACHES = {
    "masking imports nn": ("masking/a", "import maskjax.nn.a", "Floors"),
    "masking imports flax": ("masking/a", "import flax", "masking stands alone"),
    "masking imports the error type": (
        "masking/a",
        "from maskjax.errors import X",
        "masking stands alone",
    ),
    "nn imports train": ("nn/a", "def f():\n    from maskjax.train import a", "Floors"),
    "data imports its neighbour nn": ("data/a", "from maskjax.nn import a", "Floors"),
    "data imports flax": ("data/a", "from flax import linen", "Only nn and methods"),
    "train imports flax": ("train/a", "import flax.linen", "Only nn and methods"),
    "one method imports another": (
        "methods/mim/a",
        "from maskjax.methods.mim import b",
        "Methods do not import each other",
    ),
    "TensorFlow": ("data/a", "import tensorflow as tf", "Nothing imports TensorFlow"),
    "a module without a floor": ("stray", "", "Floors"),
}


@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_is_seen(name, hollow, tmp_path):
    module, line, contract = BREACHES[name]
    shutil.copytree(hollow / "maskjax", tmp_path / "maskjax")
    (tmp_path / "maskjax" / f"{module}.py").write_text(line + "\n")
    done = lint(tmp_path)
    assert done.returncode != 0
    broken = [line for line in done.stdout.splitlines() if line.endswith("BROKEN")]
    if name == "a module without a floor":
        assert "stray" in done.stdout
    else:
        assert len(broken) == 1, done.stdout
        assert broken[0].startswith(contract)


def test_files_are_short():
    """None over 400 lines."""
    lines = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in SOURCES}
    assert {name: number for name, number in lines.items() if number > 400} == {}


def test_nothing_outdated_is_used():
    """`jax.pmap` and `pjit` have newer forms; TensorFlow is never imported."""
    found = []
    for path in SOURCES:
        if path.is_relative_to(ROOT / "tests"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            parts = {part for name in _names(node) for part in name.split(".")}
            if parts & {"pjit", "pmap", "tensorflow"}:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not found


def _names(node: ast.AST) -> list[str]:
    """What a node imports, or the attribute it takes."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return [node.attr] if isinstance(node, ast.Attribute) else []


def test_there_is_no_drawer_for_everything():
    assert not [
        path for path in SOURCES if path.stem in ("utils", "helpers", "misc", "common_utils")
    ]


def test_functions_are_short():
    """None over 50 lines beside its docstring."""
    long = []
    for path in SOURCES:
        if path.is_relative_to(ROOT / "tests"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines - _docstring_lines(node) > 50:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} {lines}")
    assert not long


def _docstring_lines(node: ast.FunctionDef) -> int:
    first = node.body[0]
    return first.end_lineno - first.lineno + 1 if ast.get_docstring(node) else 0
