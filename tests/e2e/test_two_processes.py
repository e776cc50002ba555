"""A run over two processes, killed, goes on in one: same examples, same losses, same bad ones."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import runs
from PIL import Image

from maskjax.observe.bad_examples import read_bad_examples

SCRIPT = """
import sys

if __name__ == "__main__":
    import jax
    from maskjax.cli.main import main

    index, port, argv = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, index)
    sys.exit(main(argv))
"""
OPTIONS = ("model.image_size=(8,8)", "data.bad_share=0.3", "checkpoint.every=8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """40 grey 8 x 8 pictures of two classes, four of them broken."""
    root, rng = tmp_path_factory.mktemp("set"), np.random.default_rng(0)
    for number in range(40):
        path = root / f"train/{'ab'[number % 2]}/{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(path)
        if number in (3, 4, 17, 30):
            path.write_bytes(path.read_bytes()[:40])
    return root


def two_processes(script: Path, argv) -> list[subprocess.Popen]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    return [
        subprocess.Popen(
            [sys.executable, script, str(index), str(port), *argv],
            cwd=runs.ROOT,
            env=os.environ | flags,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]


@pytest.mark.slow
def test_killed_on_two_processes_and_resumed_on_one(folder, tmp_path):
    data = f"data.path=folder:{folder}"
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert runs.train(whole, data, *OPTIONS) == 0

    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    argv = runs.command(broken, data, *OPTIONS, "data.workers=1")
    processes = two_processes(script, argv)
    try:
        saved = broken / "checkpoints/8/commit_success.txt"
        runs.wait_for(lambda: saved.exists() or 8 in saved_steps(broken), processes[0])
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert runs.train(broken, data, *OPTIONS) == 0

    assert runs.lines(whole)[-1]["data/skipped"] > 50
    for found, expected in zip(runs.lines(broken), runs.lines(whole), strict=True):
        assert found["step"] == expected["step"]
        assert found["data/skipped"] == expected["data/skipped"]
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    lists = [read_bad_examples(workdir / "bad_examples.jsonl") for workdir in (broken, whole)]
    assert lists[0] == lists[1]
    assert {entry["id"] for entry in lists[0]} == {
        f"train/{'ab'[number % 2]}/{number:02d}.png" for number in (3, 4, 17, 30)
    }


def saved_steps(workdir: Path) -> list[int]:
    return runs.steps_saved(workdir) if (workdir / "checkpoints").is_dir() else []
