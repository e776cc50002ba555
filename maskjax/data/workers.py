"""Data worker processes: the signals they ignore, and notes of what each of them is reading."""

import contextlib
import mmap
import multiprocessing
import os
import re
import shutil
import signal
import tempfile
import threading
import time
import weakref
from pathlib import Path

from maskjax.errors import UserError

_WIDTH = 512
_HINTS = {
    signal.SIGKILL: " (killed; out of memory?)",
    signal.SIGBUS: " (bus error; is /dev/shm full? containers want a larger --shm-size)",
    signal.SIGSEGV: " (crashed)",
    signal.SIGTERM: " (terminated)",
}


def shield(index: int, count: int) -> None:
    """Makes a worker process ignore Ctrl-C and SIGTERM, and end with its parent.

    A terminal and most schedulers signal the workers as well. They have to go on while the main
    process finishes its step and saves; it ends them itself. If it is killed, they end as well.

    Args:
        index, count: which worker this is, of how many; unused.
    """
    ignore(signal.SIGINT, signal.SIGTERM)


def ignore(*numbers: int) -> None:
    """Makes a worker process ignore signals, and end with its parent."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent():
    while (parent := multiprocessing.parent_process()) is None:
        time.sleep(1)
    parent.join()
    os._exit(1)


class Notes:
    """What every data thread is working on, in files: they outlive a process that is killed.

    Picklable; the first object owns the folder and removes it in the end.
    """

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="maskjax-data-")
        self._local = threading.local()
        self.close = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def __getstate__(self) -> str:
        return self.folder

    def __setstate__(self, folder: str):
        self.folder, self._local = folder, threading.local()

    def write(self, text: str) -> None:
        """This thread works on ``text``; "" = on nothing."""
        if not hasattr(self._local, "page"):
            self._local.page = self._page()
        self._local.page[:] = text.encode(errors="replace")[:_WIDTH].ljust(_WIDTH, b"\0")

    def read(self) -> dict[int, list[str]]:
        """{process id: what its threads work on}."""
        found: dict[int, list[str]] = {}
        for path in sorted(Path(self.folder).glob("*")):
            text = path.read_bytes().rstrip(b"\0").decode(errors="replace")
            found.setdefault(int(path.name.partition("-")[0]), []).extend([text] if text else [])
        return found

    def _page(self) -> mmap.mmap:
        path = Path(self.folder, f"{os.getpid()}-{threading.get_native_id()}")
        path.write_bytes(b"\0" * _WIDTH)
        with path.open("r+b") as file:
            return mmap.mmap(file.fileno(), _WIDTH)


def explain_death(error: Exception, notes: Notes) -> UserError | None:
    """What happened, if the error is Grain's about a worker that is no more; else None."""
    match = re.search(
        r"Worker process was terminated unexpectedly with exit code (-?\d+)", str(error)
    )
    if match is None:
        return None
    code = int(match[1])
    names = [repr(text) for text in dead_notes(notes)]
    doing = f"while working on {', '.join(names)}" if names else "between two examples"
    return UserError(
        f"a data worker ended with exit code {code}{_HINTS.get(-code, '')} {doing}. The run can be"
        " resumed with the same command; config.data.workers=0 reads in threads instead"
    )


def free_shared_memory() -> int | None:
    """Bytes that are free where workers put their batches; None where there is no such place."""
    try:
        return shutil.disk_usage("/dev/shm").free
    except OSError:
        return None


def dead_notes(notes: Notes, patience: float = 2.0) -> list[str]:
    """What processes that are no more were working on.

    Args:
        notes: what they all write.
        patience: seconds to wait for the first one. The pipes of a process that ends are closed
            before it is gone, so whoever reads them may come too early.
    """
    end = time.monotonic() + patience
    while True:
        multiprocessing.active_children()  # Takes note of those that have just ended.
        gone = [texts for pid, texts in notes.read().items() if not _alive(pid)]
        if gone or time.monotonic() > end:
            return [text for texts in gone for text in texts]
        time.sleep(0.01)


def _alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
