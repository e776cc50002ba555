"""The processes of a run: found, waited for, joined; and how they leave.

Nothing here is needed for one process. `start` must come before the first use of a device.
"""

import contextlib
import dataclasses
import glob
import logging
import os
import pathlib
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import jax

from maskjax.errors import UserError
from maskjax.train import blackboard
from maskjax.train.rollcall import roll_call

log = logging.getLogger(__name__)

# Exit code of a process that cannot go on because of another one: start all of them again.
# (EX_TEMPFAIL of sysexits.h.)
RESTART = 75

# Name of the environment variable -> field of `Place`, for launchers of one's own.
_ENVIRONMENT = {
    "JAX_COORDINATOR_ADDRESS": "address",
    "JAX_NUM_PROCESSES": "count",
    "JAX_PROCESS_ID": "index",
}
# Variables that say that there are several processes, where jax may not be able to find out more;
# and the value that says that there is only one.
_SIGNS = {
    "OMPI_COMM_WORLD_SIZE": ("Open MPI", "1"),
    "PMI_SIZE": ("MPI", "1"),
    "JOB_COMPLETION_INDEX": ("an indexed Kubernetes job", ""),
}
_names: list[str] = []


@dataclasses.dataclass(frozen=True)
class Place:
    """Where this process stands among those of a run.

    Attributes:
        address: "host:port" of process 0; "" for a single process.
        count: number of processes.
        index: of this one.
        local_devices: ids of the GPUs it uses; None = all of the host.
        found: how this is known, in words.
    """

    address: str = ""
    count: int = 1
    index: int = 0
    local_devices: tuple[int, ...] | None = None
    found: str = "one process"


def find(address: str | None, count: int | None, index: int | None) -> Place:
    """Completes what is given from the environment, else by jax's detection of clusters.

    Args:
        address: "host:port" of process 0.
        count: number of processes; 1 = this one alone, whatever the environment says.
        index: of this process.

    Raises:
        UserError: if several processes are likely but not all three are known, or are impossible.
    """
    given = {"address": address, "count": count, "index": index}
    given = {key: value for key, value in given.items() if value is not None}
    if given.get("count") == 1:
        return Place()
    told = {field: os.environ[name] for name, field in _ENVIRONMENT.items() if name in os.environ}
    for field in ("count", "index"):
        if field in told:
            told[field] = _number(field, told[field])
    known = told | given
    if len(known) == len(_ENVIRONMENT):
        place = Place(**known, local_devices=_devices_of_environment(), found="given")
    else:
        place = _detected(known)
    if not 0 <= place.index < place.count:
        raise UserError(f"--process-id={place.index}: must be 0 .. {place.count - 1}")
    return place if place.count > 1 else Place()


def start(place: Place, timeout: float = 300, heartbeat: float = 100) -> None:
    """Joins the processes of a run; returns when all are there. Does nothing for a single one.

    Args:
        place: of `find`.
        timeout: seconds to wait for the others.
        heartbeat: seconds of silence after which a process counts as dead and the others end.

    Raises:
        UserError: naming who did not come.
    """
    _names[:] = [f"{socket.gethostname()}:{os.getpid()}"]
    if place.count == 1:
        return
    _names[:] = roll_call(place.address, place.count, place.index, _names[0], timeout)
    jax.distributed.initialize(
        place.address,
        place.count,
        place.index,
        local_device_ids=place.local_devices,
        cluster_detection_method="deactivate",
        initialization_timeout=max(30, int(timeout)),
        heartbeat_timeout_seconds=max(1, int(heartbeat)),
    )


def names() -> list[str]:
    """ "host:process number" of every process, by index."""
    return _names or [f"{socket.gethostname()}:{os.getpid()}"]


def first() -> bool:
    """Whether this is the process that writes and prints."""
    return jax.process_index() == 0


def say(text: str) -> None:
    """Prints a line of the run, once."""
    if first():
        print(text, flush=True)


def check_shared(path: pathlib.Path, flag: str, seconds: float = 60) -> None:
    """Whether every process sees a file that process 0 has just written.

    Args:
        path: of the file.
        flag: the argument that its folder was given by.
        seconds: that a network file system may take to show it.

    Raises:
        UserError: naming those that do not see it: their folder is another one.
    """
    if jax.process_count() == 1:
        return
    blackboard.exchange("written", 600)
    end = time.monotonic() + seconds
    while not path.is_file() and time.monotonic() < end:
        time.sleep(0.5)
    seen = blackboard.exchange("yes" if path.is_file() else "", 600)
    blind = [index for index, text in seen.items() if not text]
    if blind:
        raise UserError(
            f"{flag}={path.parent}: must be one folder for all processes, on a shared file system;"
            f" what process 0 wrote there is not seen by {called(blind)}"
        )


def called(indices: Sequence[int]) -> str:
    """Processes by number and name: "process 3 (host-1:4711)"."""
    known = names()
    return ", ".join(f"process {i} ({known[i]})" for i in indices)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Around what all processes do: one that fails here leaves at once, and says why.

    The usual way out would wait for a save that waits for the others, then for their goodbye, while
    they wait for this one. With a single process errors just pass.
    """
    try:
        yield
    except Exception as error:
        if jax.process_count() == 1:
            raise
        if isinstance(error, UserError):
            leave(error.exit_code, str(error))
        traceback.print_exc()
        if isinstance(error, jax.errors.JaxRuntimeError):
            leave(RESTART, _who_left(error))
        leave(1, f"{type(error).__name__}: {error}")


def leave(code: int, why: str) -> NoReturn:
    """Ends this process at once, of several that wait for each other; tells them why."""
    index = jax.process_index()
    blackboard.post("left", why)
    log.error("process %d of %d (%s): %s", index, jax.process_count(), names()[index], why)
    if index == 0:
        time.sleep(2)  # the notes are here: the others may want to read them
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _who_left(error: Exception) -> str:
    """Whether it was another process that broke this one's step, and which."""
    absent = blackboard.wait(f"after an error/{time.time() // 60:.0f}", 5)
    notes = blackboard.read("left")
    text = [f"{called([i])} left: {why}" for i, why in notes.items() if i != jax.process_index()]
    text += [f"{called([i])} is gone" for i in absent if i not in notes]
    first_line = str(error).splitlines()[0][:200]
    return f"{'; '.join(text) or 'a device failed'} ({first_line}); start all processes again"


def _number(field: str, text: str) -> int:
    name = next(name for name, known in _ENVIRONMENT.items() if known == field)
    try:
        return int(text)
    except ValueError:
        raise UserError(f"{name}={text} in the environment: must be a whole number") from None


def _detected(known: dict[str, Any]) -> Place:
    address, count, index, devices, how = _ask_jax(known)
    if None not in (address, count, index):
        alone = _one_process_per_host(os.environ, count)
        devices = _all_gpus() if alone else devices
        return Place(address, count, index, tuple(devices) if devices else None, how)
    signs = [
        who for name, (who, one) in _SIGNS.items() if os.environ.get(name, one) not in ("", one)
    ]
    if known or signs:
        what = f"this process is one of {signs[0]}" if signs else "several processes are asked for"
        lacking = [f"--{flag}" for flag in _lacking(address, count, index)]
        raise UserError(
            f"{what}, but not found out by jax: {', '.join(lacking)}. Give them (on Kubernetes,"
            " pip install kubernetes finds them), or --num-processes=1 for this process alone"
        )
    return Place()


def _lacking(address: Any, count: Any, index: Any) -> list[str]:
    flags = {"coordinator-address": address, "num-processes": count, "process-id": index}
    return [flag for flag, value in flags.items() if value is None]


def _ask_jax(known: dict[str, Any]) -> tuple:
    """jax's own detection: Cloud TPU, GKE, Slurm, Open MPI, Kubernetes.

    It has no public name; `jax.distributed.initialize` does both, find and join, and aborts when
    the others do not come.
    """
    from jax._src.clusters import ClusterEnv

    values = [known.get(field) for field in _ENVIRONMENT.values()]
    try:
        found = ClusterEnv.auto_detect_unset_distributed_params(
            *values, _devices_of_environment(), None, 60
        )
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        raise UserError(
            f"a cluster was found, but not this process's place in it ({error}); give"
            " --coordinator-address, --num-processes and --process-id"
        ) from error
    return *found, "found out by jax"


def _devices_of_environment() -> tuple[int, ...] | None:
    text = os.environ.get("JAX_LOCAL_DEVICE_IDS")
    return tuple(map(int, text.split(","))) if text else None


def _one_process_per_host(environment: Mapping[str, str], count: int) -> bool:
    """Whether Slurm runs one process on each host: then it has all GPUs of its host.

    jax takes a Slurm task for the owner of one GPU, the one with the task's number on its host.
    """
    if "JAX_LOCAL_DEVICE_IDS" in environment:
        return False
    return environment.get("SLURM_STEP_NUM_NODES") == str(count)


def _all_gpus() -> tuple[int, ...] | None:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = len(visible.split(",")) if visible else len(glob.glob("/dev/nvidia[0-9]*"))
    return tuple(range(count)) or None
