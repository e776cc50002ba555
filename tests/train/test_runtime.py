"""The compile cache, the memory allocator and the line about the devices."""

import platform
import subprocess
import sys

import jax
import pytest

from maskjax.train.runtime import device_report, enable_compile_cache
from maskjax.train.sharding import make_mesh

KEYS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture(autouse=True)
def restored():
    before = {key: getattr(jax.config, key) for key in KEYS}
    yield
    for key, value in before.items():
        jax.config.update(key, value)


def test_the_cache_is_where_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "environment"))
    assert enable_compile_cache(str(tmp_path / "mine")) == str(tmp_path / "mine")
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")
    assert enable_compile_cache() == str(tmp_path / "environment")
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "environment")


def test_the_default_is_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert enable_compile_cache() == str(tmp_path / ".cache" / "maskjax" / "jax")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="sets glibc's allocator")
def test_freed_memory_is_used_again():
    """Each of 20 blocks of 64 MiB would fault its pages in anew: at least 32, if they are huge."""
    code = (
        "import numpy, resource\n"
        "from maskjax.train.runtime import keep_freed_memory\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def count():\n"
        "    start = faults()\n"
        "    for _ in range(20): numpy.ones(2**26, numpy.uint8)\n"
        "    return faults() - start\n"
        "before = count()\n"
        "assert keep_freed_memory()\n"
        "count()\n"
        "print(before, count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before > 20 * 16
    assert after < 20


def test_device_report():
    report = device_report(make_mesh({"data": -1, "fsdp": 2}))
    assert report == (
        "processes: 1 expected, 1 present; 8 device(s) (cpu),"
        " mesh replica 1 x data 4 x fsdp 2 x tensor 1"
    )
