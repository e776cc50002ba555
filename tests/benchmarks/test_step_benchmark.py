"""benchmarks/step.py runs, times every variant of ours and writes what it found."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "step.py"


def call(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def test_one_round_of_ours(tmp_path):
    out = tmp_path / "folder" / "step.json"
    names = ["textbook/float32", "ours/float32/unrolled", "ours/float32/all", "ours/bfloat16/scan"]
    options = ("--size", "toy", "--rounds", "1", "--steps", "1", "--out", str(out))
    done = call(*options, "--contestants", *names)
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    assert list(record["summary"]) == names
    assert record["summary"][names[0]]["speed"] == 1
    assert all(len(times) == 1 and times[0] > 0 for times in record["seconds"].values())
    assert {"jax", "jaxlib", "maskjax", "python"} <= set(record["versions"])
    assert all(name in done.stdout for name in names)
    # Masks leave 4 of 16 patches to the encoder, "all" 15: by FLOPs 2 times the step.
    assert record["saving"].keys() == {"float32"}
    speed, flops = record["saving"]["float32"]
    assert 1.5 < flops < 2.5
    found = record["summary"]
    times = [found[name]["median_seconds"] for name in names[1:3]]
    assert speed == pytest.approx(times[1] / times[0])


@pytest.mark.parametrize(
    "options, said",
    [
        (("--contestants", "ours/float16"), "no contestant ours/float16"),
        (("--rounds", "0"), "at least 1"),
        (("--size", "giant"), "invalid choice"),
    ],
)
def test_wrong_options_are_told(options, said):
    done = call(*options)
    assert done.returncode != 0
    assert said in done.stderr and "Traceback" not in done.stderr
