"""A copy of a run on an object store (gs://, s3://, any fsspec URL): `config.checkpoint.mirror`.

The run itself stays on a file system, which Orbax needs; process 0 copies every finished checkpoint
and the small files beside the steps, with retries. A start in an empty workdir, on another machine
after a preemption for example, begins by fetching the newest copy.

    URL/config.json, metrics.jsonl ...
    URL/checkpoints/<step>/...
    URL/finished/<step>             an empty object, written last: the copy of that step is whole
"""

import concurrent.futures
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from maskjax.data import files
from maskjax.errors import UserError

log = logging.getLogger(__name__)
Result = TypeVar("Result")
_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds between the attempts


class Mirror:
    """The copy of one run; a context manager that waits for the last upload.

    Args:
        url: of the copy.
        workdir: of the run.
    """

    def __init__(self, url: str, workdir: Path):
        self._url, self._workdir = url.rstrip("/"), workdir
        self._uploads = concurrent.futures.ThreadPoolExecutor(1, "mirror")

    def push(self, step: int) -> None:
        """Begins to copy a finished checkpoint; a failure is logged and ends nothing."""
        self._uploads.submit(self._push, step)

    def pull(self) -> int | None:
        """Fetches the newest whole copy and the small files into the workdir.

        Returns:
            Its step; None if there is no copy.

        Raises:
            UserError: if the store cannot be read.
        """
        steps = self._finished()
        if not steps:
            return None
        store, step = files.filesystem(self._url), max(steps)
        source = f"{self._url}/checkpoints/{step}"
        target = self._workdir / "checkpoints" / str(step)
        # Under another name until it is whole: a start that is killed here must not leave a part.
        part = target.with_name(f"{step}.orbax-checkpoint-tmp-mirror")
        _persist(f"fetch {source}", lambda: _get(store, source, part))
        for name in self._small(store.ls(self._url, detail=False)):
            url = f"{self._url}/{name}"
            _persist(
                f"fetch {url}",
                lambda url=url, name=name: _get_file(store, url, self._workdir / name),
            )
        part.rename(target)
        log.info("checkpoint %d: fetched from %s", step, self._url)
        return step

    def __enter__(self) -> "Mirror":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._uploads.shutdown(wait=True)

    def _push(self, step: int) -> None:
        began, folder = time.monotonic(), self._workdir / "checkpoints" / str(step)
        try:
            store = files.filesystem(self._url)
            _wait_for(folder)
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                self._put(store, path)
            for name in self._small(
                path.name for path in self._workdir.iterdir() if path.is_file()
            ):
                self._put(store, self._workdir / name)
            mark = f"{self._url}/finished/{step}"
            _persist(f"write {mark}", lambda: store.pipe_file(mark, b"whole"))
            self._forget(store)
            log.info(
                "checkpoint %d: copied to %s in %.1f s", step, self._url, time.monotonic() - began
            )
        except FileNotFoundError:
            log.warning("checkpoint %d was removed before it was copied to %s", step, self._url)
        except Exception as error:  # of any client of a store; training goes on without the copy
            log.error("checkpoint %d could not be copied to %s: %s", step, self._url, error)

    def _put(self, store, path: Path) -> None:
        url = f"{self._url}/{path.relative_to(self._workdir).as_posix()}"
        _persist(f"write {url}", lambda: store.pipe_file(url, path.read_bytes()))

    def _forget(self, store) -> None:
        """Removes copies of steps that the run itself has not kept."""
        for step in self._finished():
            if not (self._workdir / "checkpoints" / str(step)).is_dir():
                store.rm_file(f"{self._url}/finished/{step}")
                store.rm(f"{self._url}/checkpoints/{step}", recursive=True)

    def _finished(self) -> list[int]:
        folder = f"{self._url}/finished"

        def names() -> list[str]:
            try:
                return files.filesystem(folder).ls(folder, detail=False)
            except FileNotFoundError:
                return []

        found = (name.rpartition("/")[2] for name in _persist(f"list {folder}", names))
        return sorted(int(name) for name in found if name.isdigit())

    @staticmethod
    def _small(names) -> list[str]:
        names = (name.rstrip("/").rpartition("/")[2] for name in names)
        return sorted(name for name in names if name.endswith((".json", ".jsonl", ".txt")))


def _wait_for(folder: Path, seconds: float = 60) -> None:
    """Orbax calls a save finished a moment before it gives the folder its name."""
    end = time.monotonic() + seconds
    while not folder.is_dir():
        if time.monotonic() > end:
            raise FileNotFoundError(folder)
        time.sleep(0.05)


def _get(store, source: str, target: Path) -> None:
    root = store._strip_protocol(source)
    for path in store.find(source):
        _get_file(store, path, target / path.removeprefix(root).lstrip("/"))


def _get_file(store, source: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(store.cat_file(source))


def _persist(what: str, action: Callable[[], Result]) -> Result:
    """The action, tried again after 1, 2, 4, 8 and 16 s if it fails.

    Raises:
        UserError: what failed, after the last attempt.
        FileNotFoundError: at once.
    """
    for pause in (*_PAUSES, None):
        try:
            return action()
        except FileNotFoundError:
            raise
        except Exception as error:  # each client of a store has error types of its own
            if pause is None or isinstance(error, UserError):
                raise UserError(f"cannot {what}: {type(error).__name__}: {error}") from error
            log.warning("cannot %s yet (%s); again in %g s", what, error, pause)
            time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")
