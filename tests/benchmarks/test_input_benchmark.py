"""benchmarks/input.py runs whole pipelines of ours and writes what it found."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "input.py"


def call(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.slow
def test_one_round_of_ours(tmp_path):
    out = tmp_path / "folder" / "input.json"
    names = ["maskjax", "maskjax/simd/2-views", "part/decode=pillow"]
    options = ("--images", "8", "--names", "16", "--batch", "4", "--rounds", "1", "--batches", "1")
    done = call(*options, "--out", str(out), "--contestants", *names)
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    assert list(record["summary"]) == names
    assert record["summary"]["maskjax"]["speed"] == 1
    assert all(len(times) == 1 and times[0] > 0 for times in record["seconds"].values())
    assert {"grain", "maskjax", "simplejpeg"} <= set(record["versions"])


def test_the_files(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    from input_contestants import photographs

    files = [Image.open(io.BytesIO(data)) for data in photographs(3, 39, 50, 90)]
    assert [(file.format, file.size, file.mode) for file in files] == [
        ("JPEG", (50, 39), "RGB")
    ] * 3


@pytest.mark.parametrize(
    "options, said",
    [
        (("--contestants", "maskjax/magic"), "no contestant maskjax/magic"),
        (("--rounds", "0"), "at least 1"),
        (("--names", "3"), "--names at least a batch"),
    ],
)
def test_wrong_options_are_told(options, said):
    done = call(*options)
    assert done.returncode != 0
    assert said in done.stderr and "Traceback" not in done.stderr
