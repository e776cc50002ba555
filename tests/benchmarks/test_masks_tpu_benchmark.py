"""benchmarks/masks_tpu.py: cycles of masks by the TPU's compiler."""

import subprocess
import sys
from pathlib import Path

import pytest

from maskjax.plan.target import missing

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "masks_tpu.py"
compiler = pytest.mark.skipif(bool(missing("v5e:1x1")), reason="needs libtpu")


def call(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@compiler
def test_shares_of_a_loop_a_sort_and_neither():
    names = ["block, CAE", "random", "running_cell (1, 14, 14)"]
    done = call("--batch", "8", "16", "--size", "tiny", "--only", *names)
    assert done.returncode == 0, done.stderr
    rows = {line[:34].strip(): line[34:].split() for line in done.stdout.splitlines()[-3:]}
    assert list(rows) == names
    looped, sorted_, plain = (float(rows[name][0]) for name in names)
    # 192 turns of a loop; one sort; no more than a selection.
    assert looped > 10 * sorted_ and sorted_ > 2 * plain > 0
    assert "sequential, 192 steps" in done.stdout


@compiler
@pytest.mark.parametrize(
    "options, said",
    [
        (("--only", "nothing"), "no generator nothing"),
        (("--batch", "0"), "at least 1"),
        (("--size", "giant"), "invalid choice"),
    ],
)
def test_wrong_options_of_the_estimate_are_told(options, said):
    done = call(*options)
    assert done.returncode != 0
    assert said in done.stderr and "Traceback" not in done.stderr
