"""Processes that do not share the workdir are named, before anything is written."""

import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

CODE = """
import pathlib, sys
from maskjax.errors import UserError
from maskjax.train import processes

index, address, folder = int(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
processes.start(processes.Place(address, 2, index))
common, own = folder / "common", folder / f"host-{index}"
if index == 0:
    for place in (common, own):
        place.mkdir()
        (place / "config.json").write_text("{}")
processes.check_shared(common / "config.json", "--workdir", 0.2)
try:
    processes.check_shared(own / "config.json", "--workdir", 0.2)
except UserError as error:
    print(error, flush=True)
"""


def test_a_folder_that_is_not_shared(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CODE, str(index), address, tmp_path],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    for index, process in enumerate(started):
        text = process.communicate(timeout=200)[0]
        assert process.returncode == 0
        assert f"--workdir={tmp_path}/host-{index}: must be one folder for all processes" in text
        assert f"is not seen by process 1 ({socket.gethostname()}:{started[1].pid})" in text
