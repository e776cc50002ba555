"""A copy on an object store: whole or not used, tried again, fetched by a start elsewhere."""

import uuid

import pytest
import runs

from maskjax.data import files
from maskjax.errors import UserError
from maskjax.train import mirror
from maskjax.train.mirror import Mirror


@pytest.fixture
def url():
    """A folder of fsspec's store in memory, which all of this process shares."""
    return f"memory://{uuid.uuid4()}/run"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(mirror, "_PAUSES", (0.0, 0.0))
    monkeypatch.setattr(mirror._wait_for, "__defaults__", (0.2,))


def write_run(workdir, *steps):
    for step in steps:
        (workdir / f"checkpoints/{step}/state/d").mkdir(parents=True)
        (workdir / f"checkpoints/{step}/state/d/0").write_bytes(bytes([step]) * 9)
        (workdir / f"checkpoints/{step}/commit_success.txt").write_text("")
    (workdir / "config.json").write_text("{}")
    (workdir / "metrics.jsonl").write_text(f"{max(steps)}")
    return workdir


def content(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_newest_comes_back_as_it_was(tmp_path, url):
    with Mirror(url, write_run(tmp_path / "a", 3, 6)) as copy:
        copy.push(3)
        copy.push(6)
    (tmp_path / "b").mkdir()
    assert Mirror(url, tmp_path / "b").pull() == 6
    expected = content(tmp_path / "a")
    assert content(tmp_path / "b") == {k: v for k, v in expected.items() if "3" not in k.parts}


def test_what_the_run_drops_is_dropped(tmp_path, url):
    workdir = write_run(tmp_path / "a", 3, 6)
    with Mirror(url, workdir) as copy:
        copy.push(3)
    (workdir / "checkpoints/3").rename(tmp_path / "gone")
    with Mirror(url, workdir) as copy:
        copy.push(3)  # too late
        copy.push(6)
    names = files.filesystem(url).find(url)
    assert any("/checkpoints/6/" in name for name in names)
    assert not any("/checkpoints/3/" in name or name.endswith("finished/3") for name in names)


class Flaky:
    """A store whose every `often`-th write works."""

    def __init__(self, store, often):
        self._store, self._often, self.calls = store, often, 0

    def __getattr__(self, name):
        return getattr(self._store, name)

    def pipe_file(self, path, value):
        self.calls += 1
        if self._often == 0 or self.calls % self._often:
            raise ConnectionError("503 slow down")
        self._store.pipe_file(path, value)


def test_writes_are_tried_again(tmp_path, url, monkeypatch, caplog):
    flaky = Flaky(files.filesystem(url), 3)
    monkeypatch.setattr(files, "filesystem", lambda _: flaky)
    with Mirror(url, write_run(tmp_path / "a", 3)) as copy:
        copy.push(3)
    assert "503 slow down); again in" in caplog.text
    (tmp_path / "b").mkdir()
    assert Mirror(url, tmp_path / "b").pull() == 3


def test_a_copy_that_could_not_be_finished_is_not_used(tmp_path, url, monkeypatch, caplog):
    workdir = write_run(tmp_path / "a", 3, 6)
    with Mirror(url, workdir) as copy:
        copy.push(3)
    with monkeypatch.context() as patch:
        flaky = Flaky(files.filesystem(url), 0)
        patch.setattr(files, "filesystem", lambda _: flaky)
        with Mirror(url, workdir) as copy:
            copy.push(6)
    assert f"checkpoint 6 could not be copied to {url}: cannot write" in caplog.text
    (tmp_path / "b").mkdir()
    assert Mirror(url, tmp_path / "b").pull() == 3


def test_nothing_there(tmp_path, url):
    assert Mirror(url, tmp_path).pull() is None
    with pytest.raises(UserError, match="no file system is known for nowhere"):
        Mirror("nowhere://a", tmp_path).pull()


@pytest.mark.slow
def test_a_run_goes_on_elsewhere_from_its_copy_on_s3(tmp_path, monkeypatch, capsys):
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    try:
        files._filesystems.clear()
        monkeypatch.setattr(mirror._wait_for, "__defaults__", (60.0,))
        files.filesystem("s3://bucket").mkdir("bucket")
        options = ("checkpoint.every=4", "checkpoint.mirror=s3://bucket/run", "train.steps=8")
        assert runs.train(tmp_path / "a", *options) == 0
        names = files.filesystem("s3://bucket").find("s3://bucket/run")
        assert "bucket/run/finished/8" in names
        files.filesystem("s3://bucket").rm_file("s3://bucket/run/finished/8")  # as if cut short
        capsys.readouterr()
        assert runs.train(tmp_path / "b", *options) == 0
        assert "resuming at step 4 (example 256)" in capsys.readouterr().out
        assert runs.exact(tmp_path / "b") == runs.exact(tmp_path / "a")
        runs.assert_same_bits(
            runs.saved_state(tmp_path / "b")[0], runs.saved_state(tmp_path / "a")[0]
        )
    finally:
        server.stop()
        files._filesystems.clear()
