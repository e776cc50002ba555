"""What can go wrong with checkpoints on disks and buckets, said so that a user can act."""

import contextlib
import errno
from collections.abc import Callable, Iterator
from typing import TypeVar

from maskjax.errors import UserError
from maskjax.train import blackboard

Result = TypeVar("Result")
# What Orbax, tensorstore, json and the clients of object stores raise when they cannot read.
_UNREADABLE = (OSError, ValueError, LookupError, TypeError)
_MANY_HOURS = 6 * 3600.0  # reading a large state from slow storage


class DamagedError(UserError):
    """A checkpoint that is not whole, or whose bytes are not those that were saved."""


class StorageError(UserError):
    """A checkpoint could not be written. Starting again may help, so the exit code is 1."""

    exit_code = 1


@contextlib.contextmanager
def readable(where: str) -> Iterator[None]:
    """Says which checkpoint it was when it cannot be read."""
    try:
        yield
    except UserError:
        raise
    except _UNREADABLE as error:
        raise DamagedError(
            f"{where}: the checkpoint is damaged or was changed: {type(error).__name__}:"
            f" {_first_line(error)}; move the directory away to go on from an older one"
        ) from error


def together(where: str, read: Callable[[], Result]) -> Result:
    """`read()` on every process; if it is damaged for one of them, it is for all.

    Else those that could read it would wait in the next collective for the one that could not.

    Raises:
        DamagedError: as the first process that could not read it.
    """
    result, problem = None, ""
    try:
        with readable(where):
            result = read()
    except DamagedError as error:
        problem = str(error)
    said = blackboard.exchange(problem, _MANY_HOURS)
    for index in sorted(said):
        if said[index]:
            raise DamagedError(said[index])
    return result


@contextlib.contextmanager
def writable(directory: str, newest: Callable[[], int | None]) -> Iterator[None]:
    """Says what became of a save that failed, and what is still there.

    Args:
        directory: of the checkpoints.
        newest: the newest finished step.
    """
    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError) as error:
        try:
            step = newest()
        except OSError:
            step = None
        kept = "no finished one is there" if step is None else f"step {step} is whole and was kept"
        raise StorageError(
            f"{directory}: a checkpoint could not be written: {_first_line(error)}{_advice(error)};"
            f" {kept}; the same command goes on from there"
        ) from error


def _advice(error: BaseException) -> str:
    text, number = str(error).lower(), getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT) or "no space" in text or "quota" in text:
        return " (the disk or quota is full: free some space, or set config.checkpoint.keep_last)"
    if number in (errno.EACCES, errno.EROFS, errno.EPERM) or "permission denied" in text:
        return " (the folder cannot be written: mount it writable, or take another --workdir)"
    return ""


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or "no message").splitlines()[0][:300]
