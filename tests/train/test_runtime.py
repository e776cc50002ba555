"""The compile cache, the memory allocator and the line about the devices."""

import platform

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
def test_device_report():
    report = device_report(make_mesh({"data": -1, "fsdp": 2}))
    assert report == (
        "processes: 1 expected, 1 present; 8 device(s) (cpu),"
        " mesh replica 1 x data 4 x fsdp 2 x tensor 1"
    )
