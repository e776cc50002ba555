"""benchmarks/masks.py runs, times generators beside the step and writes what it found."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "masks.py"


def call(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def test_one_round(tmp_path):
    out = tmp_path / "folder" / "masks.json"
    names = ["random", "block, BEiT", "sampled"]
    options = ("--size", "toy", "--rounds", "1", "--batch", "16", "--least", "0")
    done = call(*options, "--out", str(out), "--only", *names)
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    assert sorted(record["summary"]) == sorted(names)
    assert all(len(times) == 1 and times[0] > 0 for times in record["seconds"].values())
    row = record["summary"]["block, BEiT"]
    assert row["sequential_steps"] > 0 and record["summary"]["random"]["sequential_steps"] == 0
    scaled = record["seconds"]["MAE step"][0] * 16 / record["step_batch"]
    assert row["share"] == pytest.approx(row["median_seconds"] / scaled)
    assert {"jax", "jaxlib", "maskjax", "python"} <= set(record["versions"])
    assert all(name in done.stdout for name in names) and "sequential" in done.stdout


@pytest.mark.slow
def test_every_generator_runs(tmp_path):
    options = ("--size", "toy", "--rounds", "1", "--batch", "4", "--least", "0")
    done = call(*options, "--out", str(tmp_path / "masks.json"))
    assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "masks.json").read_text())["summary"]) > 20


@pytest.mark.parametrize(
    "options, said",
    [
        (("--only", "nothing"), "no generator nothing"),
        (("--rounds", "0"), "at least 1"),
        (("--size", "giant"), "invalid choice"),
    ],
)
def test_wrong_options_are_told(options, said):
    done = call(*options)
    assert done.returncode != 0
    assert said in done.stderr and "Traceback" not in done.stderr
