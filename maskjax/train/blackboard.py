"""What processes tell each other without a collective: notes and barriers that end in time.

By jax's coordination service, which lives in process 0 and needs no device. With one process
nothing is told and nothing is waited for.
"""

import contextlib
import itertools
import re
from typing import Any

import jax
from orbax.checkpoint import multihost

_rounds = itertools.count()


def post(key: str, text: str) -> None:
    """Leaves a note under "<key>/<this process>", in place of an older one; silent if it cannot."""
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        if (client := _client()) is not None:
            client.key_value_set(f"{key}/{jax.process_index()}", text, allow_overwrite=True)


def read(key: str) -> dict[int, str]:
    """{process: its note}; empty if process 0 is gone."""
    client = _client()
    if client is None:
        return {}
    try:
        notes = client.key_value_dir_get(f"{key}/")
    except jax.errors.JaxRuntimeError:
        return {}
    return {int(name.rpartition("/")[2]): text for name, text in notes}


def wait(name: str, seconds: float) -> list[int]:
    """A barrier of all processes, used once per name; returns who did not come in time.

    [] when all came. If process 0 does not answer, it is the one: [0].
    """
    client = _client()
    if client is None:
        return []
    try:
        client.wait_at_barrier(f"maskjax/{name}", int(1000 * seconds))
    except jax.errors.JaxRuntimeError as error:
        return _absent(str(error)) or [0]
    return []


def exchange(text: str, seconds: float) -> dict[int, str]:
    """{process: what it says}, after all have said something.

    A collective of the host: every process calls it, as often and in the same order as the others.

    Raises:
        JaxRuntimeError: if somebody did not come in time.
    """
    client = _client()
    if client is None:
        return {0: text}
    name = f"exchange/{next(_rounds)}"
    post(name, text or " ")
    client.wait_at_barrier(f"maskjax/{name}", int(1000 * seconds))
    return {index: said.strip() for index, said in read(name).items()}


def _client() -> Any:
    if not multihost.is_jax_distributed_client_initialized():
        return None
    return multihost.get_jax_distributed_client()


def _absent(message: str) -> list[int]:
    """Process numbers out of the message of a barrier that timed out or lost somebody."""
    _, found, names = message.partition("timed out task names:")
    if not found:
        _, found, names = message.partition("stopped sending heartbeats):")
    lines = names.strip().splitlines() if found else []
    numbers = []
    for line in lines:
        match = re.fullmatch(r"\s*(?:.*task:)?(\d+)\s*", line)
        if match is None:
            break
        numbers.append(int(match[1]))
    return sorted(numbers)
