"""Many saves in one run, with the host memory before each: `make soak SAVES=300`.

A MAE with a state of about 40 MB is trained for as many steps as saves, each of which is saved.
After a third of the saves everything that grows once (compiled programs, pools of threads, buffers)
has grown; from there on the memory must stay within a quarter of one state.
"""

import argparse
import logging
import sys
import tempfile
import time

import jax
import numpy as np
import runs

from maskjax.train import checkpoint, host_memory

OPTIONS = (
    "model.encoder.dim=192",
    "model.encoder.depth=6",
    "model.decoder.dim=64",
    "data.global_batch=8",
    "checkpoint.every=1",
    "checkpoint.keep_last=2",
    "optim.warmup_steps=4",
    "train.log_every=50",
)


def main() -> int:
    """Runs it; exit code 1 if the memory grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--saves", type=int, default=300)
    saves = parser.parse_args().saves
    memory: list[int] = []
    save = checkpoint.Checkpoints.save

    def measured(self, step, state, *args, **kwargs):
        # At rest: no step and no save is under way.
        self.wait()
        jax.block_until_ready(state)
        host_memory.return_freed_memory()
        memory.append(host_memory.resident())
        return save(self, step, state, *args, **kwargs)

    checkpoint.Checkpoints.save = measured
    # Each save is due while the last one is being written, which is warned of 300 times.
    for name in ("maskjax.train.checkpoint", "absl"):
        logging.getLogger(name).addFilter(lambda record: record.levelno > logging.WARNING)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        assert runs.train(folder, f"train.steps={saves}", *OPTIONS) == 0
        state, _ = runs.saved_state(folder)
        assert len(runs.steps_saved(folder)) == 2
    size = sum(array.nbytes for array in state.values())
    assert len(memory) == saves, f"{len(memory)} saves were begun"
    mib = np.asarray(memory) / 2**20
    for save in sorted({1, saves // 10, saves // 3, saves // 2, 2 * saves // 3, saves}):
        print(f"at save {save:>4}: {mib[save - 1]:8.1f} MiB")
    tail = mib[saves // 3 :]
    slope = np.polyfit(np.arange(len(tail)), tail, 1)[0]
    growth = np.median(tail[-10:]) - np.median(tail[:10])
    print(
        f"{saves} saves of {size / 2**20:.1f} MiB in {time.monotonic() - began:.0f} s: from save"
        f" {saves // 3} on {growth:+.1f} MiB, {slope * 1024:+.1f} KiB a save, highest"
        f" {mib.max():.0f} MiB"
    )
    if growth > size / 2**20 / 4:
        print("the host memory grows")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
