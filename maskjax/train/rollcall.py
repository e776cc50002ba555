"""Who is there, before `jax.distributed` begins: its own time-out aborts and names nobody.

Process 0 listens on the coordinator's port, and closes it again before jax opens it. Every other
process sends one line of JSON, {"index", "count", "name"}, and gets one back: {"names": [...]} when
all are there, or {"error": text}, the same text for all.
"""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

from maskjax.errors import UserError

_PAUSE = 0.2  # seconds between two attempts to connect
_PATIENCE = 5  # seconds for a line from who has connected, and for the answer of process 0
_KEYS = {"index", "count", "name"}


def roll_call(address: str, count: int, index: int, name: str, timeout: float) -> list[str]:
    """Waits for all processes of a run.

    Args:
        address: "host:port" of process 0.
        count: how many processes there should be.
        index: which of them this is.
        name: what to call it in messages, such as "host-3:4711".
        timeout: seconds.

    Returns:
        The names of all processes, by index.

    Raises:
        UserError: naming the processes that did not come in time, or two that say they are the
            same one, or one that expects another count.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--coordinator-address={address}: must be HOST:PORT of process 0")
    deadline = time.monotonic() + timeout
    if count == 1:
        return [name]
    if index == 0:
        return _call(int(port), count, name, deadline, timeout)
    return _answer((host.strip("[]"), int(port)), count, index, name, deadline, timeout)


def _call(port: int, count: int, name: str, deadline: float, timeout: float) -> list[str]:
    names, lines, everyone = {0: name}, {}, []
    with contextlib.ExitStack() as stack, _listening(port, deadline) as server:
        error = None
        while len(names) < count and error is None:
            line = _next(server, deadline)
            if line is None:
                error = _missing(names, count, timeout)
                break
            stack.enter_context(line)
            said = _read(line, min(deadline, time.monotonic() + _PATIENCE))
            if not isinstance(said, dict) or said.keys() != _KEYS:
                continue
            error = _objection(said, names, lines, count)
            everyone.append(line)
            names[said["index"]], lines[said["index"]] = said["name"], line
            if len(names) == count and error is None:
                for gone in [i for i in lines if not _open(lines[i])]:  # died while it waited
                    del names[gone], lines[gone]
        reply = {"error": error} if error else {"names": [names[i] for i in range(count)]}
        for line in everyone:
            with contextlib.suppress(OSError):
                line.sendall(json.dumps(reply).encode() + b"\n")
    if error:
        raise UserError(error)
    return reply["names"]


def _answer(
    place: tuple[str, int], count: int, index: int, name: str, deadline: float, timeout: float
) -> list[str]:
    said = json.dumps({"index": index, "count": count, "name": name}).encode() + b"\n"
    # A little longer than process 0 waits, so that its answer, which names who is missing, arrives.
    deadline += _PATIENCE
    while (left := deadline - time.monotonic()) > 0:
        with contextlib.suppress(OSError), socket.create_connection(place, min(left, 10)) as line:
            line.sendall(said)
            reply = _read(line, deadline)
            if isinstance(reply, dict) and reply.keys() == {"error"}:
                raise UserError(reply["error"])
            if isinstance(reply, dict) and reply.keys() == {"names"}:
                return reply["names"]
        time.sleep(_PAUSE)
    raise UserError(
        f"process {index} of {count}: process 0 did not answer at {place[0]}:{place[1]} within"
        f" {timeout:.0f} s (--start-timeout); is it started, and can this host ({name}) reach it?"
    )


@contextlib.contextmanager
def _listening(port: int, deadline: float) -> Iterator[socket.socket]:
    """The port, as soon as a run that ended a moment ago has let go of it."""
    options = {"backlog": 4096}
    if socket.has_dualstack_ipv6():
        options |= {"family": socket.AF_INET6, "dualstack_ipv6": True}
    while True:
        try:
            server = socket.create_server(("", port), **options)
            break
        except OSError as error:
            if time.monotonic() > deadline:
                raise UserError(
                    f"process 0 cannot listen on port {port} ({error.strerror}); give another one"
                    " with --coordinator-address, on every process"
                ) from error
            time.sleep(_PAUSE)
    with server:
        yield server


def _next(server: socket.socket, deadline: float) -> socket.socket | None:
    server.settimeout(max(0.01, deadline - time.monotonic()))
    try:
        return server.accept()[0]
    except TimeoutError:
        return None


def _read(line: socket.socket, deadline: float) -> Any:
    """One line of JSON; None if it is anything else, such as the probe of a load balancer."""
    data = b""
    try:
        while not data.endswith(b"\n"):
            line.settimeout(max(0.01, deadline - time.monotonic()))
            got = line.recv(1 << 16)
            if not got:
                return None
            data += got
        return json.loads(data)
    except (OSError, ValueError):
        return None


def _objection(said: dict, names: dict, lines: dict, count: int) -> str | None:
    index, name = said["index"], said["name"]
    if said["count"] != count:
        return (
            f"process {index} ({name}) expects {said['count']} processes, process 0"
            f" ({names[0]}) {count}; give the same --num-processes to all"
        )
    if index in names and (index == 0 or _open(lines[index])):
        return f"two processes say that they are process {index}: {names[index]} and {name}"
    return None


def _open(line: socket.socket) -> bool:
    """Whether the other side is still there; a process may have been started again."""
    line.setblocking(False)
    try:
        return line.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        line.settimeout(_PATIENCE)


def _missing(names: dict[int, str], count: int, timeout: float) -> str:
    absent = [str(index) for index in range(count) if index not in names]
    shown = ", ".join(absent[:20]) + (f" and {len(absent) - 20} more" if len(absent) > 20 else "")
    there = ", ".join(f"{index} ({names[index]})" for index in sorted(names)[:20])
    return (
        f"{count} processes expected, {len(names)} present after {timeout:.0f} s (--start-timeout):"
        f" missing process {shown}; present: {there}. Look at the logs of those that are missing,"
        " or start them"
    )
