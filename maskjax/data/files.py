"""Files by path: on this machine, or on an object store (``gs://``, ``s3://``, any fsspec URL)."""

import glob as local_glob
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any, BinaryIO, NamedTuple

from maskjax.data.recent import Recent
from maskjax.errors import UserError

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MAX_NAMES = 1_000_000
_filesystems: dict[tuple[int, str], Any] = {}
_filesystems_lock = threading.Lock()


class Entry(NamedTuple):
    """A file or directory. ``stamp`` changes with the content ("" if the store does not tell);
    ``mtime_ns`` is 0 for remote files."""

    path: str
    size: int
    stamp: str
    mtime_ns: int = 0
    is_dir: bool = False


def is_remote(path: str) -> bool:
    """Whether a path is a URL of a store that fsspec opens."""
    return "://" in path


def absolute(path: str) -> str:
    """The path with ``~`` expanded, absolute, without a slash at the end; URLs lose only that."""
    path = path.removeprefix("file://")
    if is_remote(path):
        return path.rstrip("/")
    return os.path.abspath(os.path.expanduser(path))


def join(folder: str, name: str) -> str:
    """A path below a folder, for both kinds of paths."""
    return f"{folder.rstrip('/')}/{name}" if name else folder


def filesystem(url: str) -> Any:
    """The fsspec file system of a URL, one for each process.

    Raises:
        UserError: the package for this kind of URL is not installed, or there is none.
    """
    import fsspec

    protocol = url.partition("://")[0]
    key = (os.getpid(), protocol)
    with _filesystems_lock:
        if key not in _filesystems:
            try:
                # Without its cache of listings: a file that is gone must not seem to be there.
                _filesystems[key] = fsspec.filesystem(protocol, use_listings_cache=False)
            except ImportError as error:
                extra = _EXTRAS.get(protocol)
                how = f"pip install maskjax[{extra}]" if extra else str(error)
                raise UserError(f"reading {url} needs another package: {how}") from error
            except ValueError as error:
                raise UserError(f"{url}: no file system is known for {protocol}://") from error
    return _filesystems[key]


@contextmanager
def named_errors(action: str, path: str) -> Iterator[None]:
    """Turns a failure to read into a UserError that says what was done to which path."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot {action} {path}: {error.strerror or error}") from error
    except Exception as error:
        # Each client of an object store has error types of its own (no credentials, time-out).
        if not is_remote(path):
            raise
        raise UserError(f"cannot {action} {path}: {type(error).__name__}: {error}") from error


def entry(path: str) -> Entry | None:
    """What is at a path; None if nothing is."""
    with named_errors("look at", path):
        try:
            if is_remote(path):
                return _remote_entry(path, filesystem(path).info(path))
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        stamp, is_dir = str(found.st_mtime_ns), os.path.isdir(path)
        return Entry(path, found.st_size, stamp, found.st_mtime_ns, is_dir)


def entries(paths: Sequence[str]) -> list[Entry | None]:
    """``entry`` of several paths; on an object store with one request for a folder of many."""
    folders: dict[str, list[str]] = {}
    for path in paths:
        folders.setdefault(path.rpartition("/")[0], []).append(path)
    found: dict[str, Entry | None] = {}
    for folder, inside in folders.items():
        if is_remote(folder) and len(inside) > 4:
            found.update(_listed(folder))
        else:
            found.update((path, entry(path)) for path in inside)
    return [found.get(path) for path in paths]


def is_dir(path: str) -> bool:
    """Whether there is a directory at a path."""
    found = entry(path)
    return found is not None and found.is_dir


def is_file(path: str) -> bool:
    """Whether there is a file at a path."""
    found = entry(path)
    return found is not None and not found.is_dir


def scan(folder: str) -> tuple[list[str], list[str]]:
    """Names of the files and of the directories in a folder, each sorted; without dot files."""
    names: tuple[list[str], list[str]] = ([], [])
    with named_errors("list", folder):
        if is_remote(folder):
            for found in filesystem(folder).ls(folder, detail=True):
                name = found["name"].rstrip("/").rpartition("/")[2]
                # Some stores keep an empty object for the folder itself.
                if not name.startswith(".") and not _is_placeholder(found, folder):
                    names[found["type"] == "directory"].append(name)
        else:
            with os.scandir(folder) as entries:
                for found in entries:
                    if not found.name.startswith("."):
                        names[found.is_dir()].append(found.name)
    return sorted(names[0]), sorted(names[1])


def summary(folder: str) -> str:
    """The first names in a folder, for messages."""
    names = sorted(name for kind in scan(folder) for name in kind)
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return shown or "nothing"


def read(path: str) -> bytes:
    """The content of a file.

    Raises:
        UserError: it cannot be read; the message names it.
    """
    with named_errors("read", path):
        if is_remote(path):
            return filesystem(path).cat_file(path)
        with open(path, "rb") as file:
            return file.read()


def open_file(path: str, ahead: bool = True) -> BinaryIO:
    """A file to read and seek in.

    Args:
        path: which file.
        ahead: fetch remote files in blocks of 8 MB; else every read is a request of its own.
    """
    with named_errors("open", path):
        if is_remote(path):
            kind = "readahead" if ahead else "none"
            return filesystem(path).open(path, "rb", block_size=2**23, cache_type=kind)
        return open(path, "rb", buffering=4096)


def braces(pattern: str) -> list[str]:
    """``a{000..010}b{x,y}`` as the list of names that a shell would make of it.

    Raises:
        UserError: braces that hold neither a range nor a list.
    """
    parts = re.split(r"\{([^{}]*)\}", pattern)
    choices = [
        [text] if n % 2 == 0 else _alternatives(text, pattern) for n, text in enumerate(parts)
    ]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > _MAX_NAMES:
        raise UserError(f"{pattern} stands for {count} names; at most {_MAX_NAMES} are allowed")
    return ["".join(chosen) for chosen in product(*choices)]


def expand(pattern: str) -> list[Entry]:
    """The files that a pattern with braces and wildcards (``*``, ``?``, ``[...]``) names.

    In the order of the braces; those of a wildcard are sorted. None comes twice.

    Raises:
        UserError: a file that is named without a wildcard is missing, or a wildcard finds nothing.
    """
    found: dict[str, Entry] = {}
    missing = []
    names = braces(absolute(pattern))
    literal = [name for name in names if not local_glob.has_magic(name)]
    there = dict(zip(literal, entries(literal), strict=True))
    for name in names:
        matches = [there[name]] if name in there else _glob(name)
        files = [file for file in matches if file and not file.is_dir]
        found.update((file.path, file) for file in files)
        if not files:
            missing.append(name)
    if missing:
        more = f" (and {len(missing) - 1} more of {pattern})" if len(missing) > 1 else ""
        raise UserError(f"there is no file {missing[0]}{more}{_beside(missing[0])}")
    return list(found.values())


def max_open_files() -> int:
    """How many files a source may keep open: half of what the system allows this process."""
    import resource

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(4096, max(32, allowed // 2))


class RangeReader:
    """Reads byte ranges of many files.

    Safe with several threads. A pickled copy, as in a worker process, opens the files for itself;
    at most ``max_open`` are kept open.
    """

    def __init__(self, max_open: int | None = None):
        self._open = Recent(max_open or max_open_files())

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Exactly ``size`` bytes from ``offset``.

        Raises:
            UserError: the file is gone, cannot be read, or ends before.
        """
        if size == 0:
            return b""
        with named_errors("read", path):
            if is_remote(path):
                data = filesystem(path).cat_file(path, start=offset, end=offset + size)
            else:
                held = self._open.get(path, lambda: _Descriptor(path))
                data = _pread(held.number, size, offset)
        if len(data) != size:
            raise UserError(
                f"{path} ends before byte {offset + size}: it was cut off or replaced after it was"
                " indexed"
            )
        return data


class _Descriptor:
    """An open file. It closes when the last one who reads from it lets go of it."""

    def __init__(self, path: str):
        self.number = -1
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self):
        if self.number >= 0:
            os.close(self.number)


def _pread(descriptor: int, size: int, offset: int) -> bytes:
    data = os.pread(descriptor, size, offset)
    while len(data) < size:  # One call returns 2 GB at most.
        more = os.pread(descriptor, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def _remote_entry(path: str, info: dict[str, Any]) -> Entry:
    keys = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "updated", "created")
    stamp = next((str(info[key]) for key in keys if info.get(key)), "")
    return Entry(path, int(info.get("size") or 0), stamp, is_dir=info["type"] == "directory")


def _listed(folder: str) -> dict[str, Entry]:
    with named_errors("list", folder):
        try:
            infos = filesystem(folder).ls(folder, detail=True)
        except FileNotFoundError:
            return {}
    paths = [join(folder, info["name"].rstrip("/").rpartition("/")[2]) for info in infos]
    return {path: _remote_entry(path, info) for path, info in zip(paths, infos, strict=True)}


def _is_placeholder(found: dict[str, Any], folder: str) -> bool:
    return found["name"].strip("/") == folder.partition("://")[2].strip("/")


def _glob(pattern: str) -> list[Entry]:
    with named_errors("list", pattern):
        if not is_remote(pattern):
            paths = sorted(local_glob.glob(pattern, recursive=True))
            return [found for found in map(entry, paths) if found is not None]
        protocol = pattern.partition("://")[0]
        found = filesystem(pattern).glob(pattern, detail=True)
        return [
            _remote_entry(f"{protocol}://{name.lstrip('/')}", found[name]) for name in sorted(found)
        ]


def _alternatives(text: str, pattern: str) -> list[str]:
    if match := _RANGE.fullmatch(text):
        first, last = match.groups()
        width = len(first) if first.startswith("0") else 0
        step = 1 if int(last) >= int(first) else -1
        if abs(int(last) - int(first)) >= _MAX_NAMES:
            raise UserError(f"{pattern}: the range {{{text}}} is too long")
        numbers = range(int(first), int(last) + step, step)
        return [str(number).zfill(width) for number in numbers]
    if "," in text:
        return text.split(",")
    raise UserError(f"{pattern}: {{{text}}} is neither a range {{000..123}} nor a list {{a,b}}")


def _beside(path: str) -> str:
    folder = path.rpartition("/")[0] or "/"
    if local_glob.has_magic(folder):
        return ""
    return f"; {folder} holds {summary(folder)}" if is_dir(folder) else f"; nor a folder {folder}"
