"""Paths, patterns, byte ranges and the cache folder."""

import os
import pickle
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax.data import cache, files
from maskjax.data.recent import Recent
from maskjax.data.sources.packed import PackedNames
from maskjax.errors import UserError

PIECE = st.sampled_from(["a", "-", "{1..3}", "{08..11}", "{x,yy,}", "{3..1}", "{007..009}", ".tar"])


@settings(max_examples=20, deadline=None)
@given(st.lists(PIECE, min_size=1, max_size=4).map("".join))
def test_braces_are_those_of_the_shell(pattern):
    shell = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' p{pattern}q"], capture_output=True, text=True, check=True
    )
    assert files.braces(f"p{pattern}q") == shell.stdout.splitlines()


@pytest.mark.parametrize("pattern", ["a{b}", "a{}", "{1...3}", "{a..c}"])
def test_other_braces_are_refused(pattern):
    with pytest.raises(UserError, match="neither a range"):
        files.braces(pattern)


def test_endless_braces_are_refused():
    with pytest.raises(UserError, match="stands for 100000000 names"):
        files.braces("{0..9999}{0..9999}")
    with pytest.raises(UserError, match="is too long"):
        files.braces("{0..99999999999}")


def test_expand(tmp_path, monkeypatch):
    for name in ("b-1", "b-0", "a-0", "c[1]"):
        (tmp_path / name).write_text(name)
    (tmp_path / "a-dir").mkdir()
    monkeypatch.chdir(tmp_path)

    def names(pattern):
        return [Path(found.path).name for found in files.expand(pattern)]

    assert names("a*") == ["a-0"]
    assert names("{b,a}-?") == ["b-0", "b-1", "a-0"]
    assert names("{b-1,b*}") == ["b-1", "b-0"]
    assert names(f"file://{tmp_path}/a-0") == ["a-0"]
    assert all(Path(found.path).is_absolute() for found in files.expand("*"))
    with pytest.raises(UserError, match=rf"no file {tmp_path}/z\*; {tmp_path} holds a-0, a-dir"):
        files.expand("z*")
    with pytest.raises(UserError, match=f"no file {tmp_path}/no/x; nor a folder {tmp_path}/no"):
        files.expand("no/x")


def test_ranges_of_more_files_than_may_be_open(tmp_path):
    """By many threads, with room for four descriptors."""
    contents = [np.random.default_rng(n).bytes(1000) for n in range(40)]
    for number, content in enumerate(contents):
        (tmp_path / f"{number}").write_bytes(content)
    rng = np.random.default_rng(0)
    draws = [(rng.integers(40), rng.integers(500), rng.integers(500)) for _ in range(2000)]
    readers = [pickle.loads(pickle.dumps(files.RangeReader(max_open=4)))]

    def read(draw):
        number, start, size = draw
        found = readers[0].read(f"{tmp_path}/{number}", start, size)
        return found == contents[number][start : start + size]

    def num_open():
        links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
        held = [os.readlink(link) for link in links if os.path.lexists(link)]
        return sum(path.startswith(str(tmp_path)) for path in held)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, draws))
    assert num_open() == 4
    readers.clear()
    assert num_open() == 0


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 9), max_size=40),
    st.integers(1, 20),
    st.lists(st.integers(0, 8), min_size=10, max_size=10),
)
def test_recent_values_stay_within_their_weight(keys, capacity, weights):
    recent = Recent(capacity, weigh=len)
    for key in keys:
        value = recent.get(key, lambda key=key: "x" * weights[key])
        assert len(value) == weights[key]
        # The last one stays, whatever it weighs.
        assert recent.get(key, lambda: pytest.fail("was not kept")) is value
        held = sum(len(kept) for kept in recent._values.values())
        assert held <= max(capacity, len(value))


def test_recent_values_are_made_once_for_all_threads():
    recent, made = Recent(4), []

    def make():
        made.append(1)
        time.sleep(0.05)
        return "value"

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: recent.get("key", make), range(8)))
    assert found == ["value"] * 8
    assert len(made) == 1


def test_a_value_that_cannot_be_made_does_not_block_the_next():
    recent = Recent(4)
    with pytest.raises(ZeroDivisionError):
        recent.get("key", lambda: 1 / 0)
    assert recent.get("key", lambda: 3) == 3


@given(st.lists(st.text(), max_size=20))
def test_packed_names(names):
    packed = PackedNames.of(names)
    assert list(packed) == names
    assert packed[1:-1] == names[1:-1]
    assert list(PackedNames.joined([packed, packed])) == names * 2
    if names:
        assert packed[-1] == names[-1]


def test_names_of_any_bytes(tmp_path):
    """A file name need not be valid UTF-8."""
    path = os.fsencode(tmp_path) + b"/\xff\xfe.jpg"
    with open(path, "wb"):
        pass
    names, _ = files.scan(str(tmp_path))
    assert files.read(files.join(str(tmp_path), PackedNames.of(names)[0])) == b""


def test_the_cache_folder(monkeypatch):
    for name in ("MASKJAX_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache.folder() == Path.home() / ".cache/maskjax"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache.folder() == Path("/xdg/maskjax")
    monkeypatch.setenv("MASKJAX_CACHE", "~/mine")
    assert cache.folder() == Path.home() / "mine"


def test_writers_at_the_same_time_leave_whole_files(tmp_path):
    path, stop = tmp_path / "deep/file", threading.Event()

    def write(letter):
        while not stop.is_set():
            assert cache.write(path, letter * 100_000)

    with ThreadPoolExecutor(4) as pool:
        for letter in (b"a", b"b", b"c", b"d"):
            pool.submit(write, letter)
        deadline = time.monotonic() + 10
        seen = set()
        while len(seen) < 3 and time.monotonic() < deadline:
            content = path.read_bytes() if path.exists() else b""
            seen.add(content[:1])
            assert content in (b"", content[:1] * 100_000)
        stop.set()
    assert [child.name for child in path.parent.iterdir()] == ["file"]


def test_an_index_that_fails_keeps_nothing_and_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKJAX_CACHE", str(tmp_path / "cache"))
    entries = [files.Entry(f"/{n}", n, "stamp") for n in range(50)]

    def scan(entry):
        if entry.size == 3:
            raise UserError("broken")
        return {"size": np.array([entry.size] * entry.size)}

    with pytest.raises(UserError, match="broken"):
        cache.indexed("test-1", "here", entries, scan)
    good = [entry for entry in entries if entry.size != 3]
    for _ in range(2):  # Made, then loaded.
        found = cache.indexed("test-1", "here", good, scan)
        assert [len(index["size"]) for index in found] == [entry.size for entry in good]
