"""Features and losses over two processes equal those of one."""

import os
import socket
import subprocess
import sys
import textwrap

import numpy as np
import pytest

SCRIPT = """
import sys
import jax
import numpy as np

index, port, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.distributed.initialize(f"127.0.0.1:{port}", 2, index)

from jax.sharding import Mesh, NamedSharding, PartitionSpec
from maskjax.evaluate.features import extract
from maskjax.evaluate.hosts import total

rows = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec("data"))


def batches():
    # 19 images in global batches of 8, four rows for each process.
    for first in range(0, 19, 8):
        mine = np.arange(first + 4 * index, first + 4 * index + 4)
        yield {
            "image": np.zeros((4, 1, 1, 1), np.uint8),
            "label": np.int32(mine % 3),
            "valid": mine < 19,
            "position": np.stack([mine >> 32, mine], 1).astype(np.uint32),
        }


def encode(batch):
    value = np.float32(batch["position"][:, 1:])
    local = {"cls": value, "mean": np.repeat(value * 2, 3, 1)}
    put = jax.make_array_from_process_local_data
    return {name: put(rows, array) for name, array in local.items()}


found = extract(encode, batches())
summed = total(np.array([1.0, 10.0 * index]))
np.savez(out, summed=summed, **found._asdict())
"""


@pytest.mark.slow
def test_two_processes_see_every_image_once(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    outs = [tmp_path / f"{index}.npz" for index in range(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SCRIPT), str(index), str(port), str(out)],
            env=os.environ | flags,
        )
        for index, out in enumerate(outs)
    ]
    try:
        assert [process.wait(timeout=120) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    for out in outs:
        found = np.load(out)
        assert found["position"].tolist() == list(range(19))
        assert found["cls"][:, 0].tolist() == list(range(19))
        assert (found["mean"] == 2 * np.arange(19)[:, None]).all()
        assert found["label"].tolist() == [i % 3 for i in range(19)]
        assert found["summed"].tolist() == [2.0, 10.0]
