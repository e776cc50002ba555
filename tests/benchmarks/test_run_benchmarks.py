"""The benchmarks of whole runs: loop, accelerator, start-up; each does its work at a tiny size."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
TINY = ("--config", "mim/mae:tiny", "--rounds", "2", "--logs", "1", "--config.train.log_every=4")


def call(script: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(FOLDER / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.slow
def test_the_loop_is_compared_with_its_bare_step(tmp_path):
    done = call("loop.py", *TINY, "--out", str(tmp_path / "loop.json"))
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "loop.json").read_text())
    for kind in ("cpu", "wall"):
        row = record[kind]
        assert row["loop_ms"] > 0 < row["step_ms"]
        assert row["overhead"] == pytest.approx(1 - row["step_ms"] / row["loop_ms"])
        assert len(row["overheads"]) == 2
    assert record["options"]["rounds"] == 2
    assert {"jax", "python"} <= set(record["versions"])
    assert "cpu time" in done.stdout and "wall time" in done.stdout


@pytest.mark.slow
def test_an_accelerator_is_measured_even_if_it_is_none(tmp_path):
    out = tmp_path / "accelerator.json"
    done = call("accelerator.py", *TINY, "--config.data.path=digits", "--out", str(out))
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    assert record["device"] == "cpu"
    for name in ("step", "loop"):
        assert record[name]["images_per_second"] > 0
        assert record[name]["mfu"] is None
    assert 0 <= record["wait"] <= 1
    assert record["memory"]["planned"] > 0
    assert record["step_flops_per_image"] > 0
    assert "peak not known" in done.stdout and "waiting for data" in done.stdout


@pytest.mark.parametrize(
    ("script", "options", "said"),
    [
        ("loop.py", ("--rounds", "0"), "at least 1"),
        ("accelerator.py", ("--fast",), "unknown argument '--fast'"),
        ("startup.py", ("--rounds", "0"), "at least 1"),
        ("methods.py", ("--only", "nothing"), "no row nothing"),
        ("growth.py", ("--steps", "0"), "at least 1"),
    ],
)
def test_wrong_options_are_told(script, options, said):
    done = call(script, *options)
    assert done.returncode != 0
    assert said in done.stderr and "Traceback" not in done.stderr


@pytest.fixture
def scripts(monkeypatch):
    """The folder of the scripts on the path of this process."""
    monkeypatch.syspath_prepend(str(FOLDER))


def test_startup_times_a_process_and_tells_of_failures(scripts, tmp_path):
    import startup

    wall, cpu = startup.seconds(["-c", "sum(range(3_000_000))"], tmp_path)
    assert wall > 0.01 < cpu
    with pytest.raises(SystemExit, match="nonsense"):
        startup.seconds(["-c", "import nonsense"], tmp_path)
    names = startup.commands()
    assert {"import jax", "maskjax --help", "maskjax train --help"} <= set(names)
    for words in names.values():
        assert words[0] in ("-c", "-m")
