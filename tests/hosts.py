"""Runs of several processes on this machine, each of which can be watched, signalled and killed."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile

import runs

# Of XLA: on a busy machine one process may compile for long while another one waits for it.
PATIENT = (
    "--xla_cpu_collective_timeout_seconds=600"
    " --xla_cpu_collective_call_terminate_timeout_seconds=600"
)


class Hosts:
    """The processes of one run; `output` of all of them is kept."""

    def __init__(self, commands: list[list[str]], environment: dict[str, str]):
        self._files = [TemporaryFile("w+") for _ in commands]  # noqa: SIM115 (closed by `close`)
        self.processes = [
            subprocess.Popen(command, cwd=runs.ROOT, env=environment, stdout=file, stderr=file)
            for command, file in zip(commands, self._files, strict=True)
        ]

    def kill(self, indices: Iterable[int], number: int = signal.SIGKILL):
        """A signal to some of them."""
        for index in indices:
            self.processes[index].send_signal(number)

    def any_ended(self) -> bool:
        """Whether one is gone."""
        return any(process.poll() is not None for process in self.processes)

    def wait(self, seconds: float) -> tuple[int, ...]:
        """Their exit codes, when all have ended; fails if one does not."""
        end = time.monotonic() + seconds
        for process in self.processes:
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise AssertionError(f"still there after {seconds} s:\n{self.output()}") from None
        return tuple(process.returncode for process in self.processes)

    def output(self, index: int | None = None) -> str:
        """What one, or each after the other, has printed so far."""
        if index is None:
            return "\n".join(self.output(index) for index in range(len(self._files)))
        return os.pread(self._files[index].fileno(), 1 << 24, 0).decode(errors="replace")

    def close(self):
        """Kills what is left."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        for file in self._files:
            file.close()


@contextlib.contextmanager
def start(
    count: int, workdir: Path, *overrides: str, devices: int, module=("-m", "maskjax"), flags=()
) -> Iterator[Hosts]:
    """So many processes of the short run (`runs.command`), killed at the end if still there.

    Args:
        count: of processes.
        workdir: of the run.
        overrides: without "--config.".
        devices: emulated, of each process.
        module: what to give to Python: a module, or a script that takes the same arguments.
        flags: more arguments of the command.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    place = (f"--coordinator-address={address}", f"--num-processes={count}")
    command = [sys.executable, "-u", *module, *runs.command(workdir, *overrides), *place, *flags]
    xla = f"--xla_force_host_platform_device_count={devices} {PATIENT}"
    commands = [[*command, f"--process-id={index}"] for index in range(count)]
    processes = Hosts(commands, {**os.environ, "XLA_FLAGS": xla})
    try:
        yield processes
    finally:
        processes.close()
