"""Which platform jax is told to look for."""

import pytest

from maskjax.cli import platform


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """A Linux machine with compile-only packages and no accelerator, nothing said by the user."""
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setattr(platform.sys, "platform", "linux")
    monkeypatch.setattr(platform.glob, "glob", lambda pattern: [])
    monkeypatch.setattr(platform.importlib.util, "find_spec", lambda name: object())


def chosen():
    platform.choose_platform()
    return platform.os.environ.get("JAX_PLATFORMS")


def test_no_accelerator_means_cpu():
    assert chosen() == "cpu"


def test_the_user_decides(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "tpu,cpu")
    assert chosen() == "tpu,cpu"


@pytest.mark.parametrize("device", ["/dev/accel*", "/dev/vfio/[0-9]*", "/dev/nvidia[0-9]*"])
def test_with_an_accelerator_jax_decides(device, monkeypatch):
    monkeypatch.setattr(platform.glob, "glob", lambda pattern: [pattern] * (pattern == device))
    assert chosen() is None


def test_without_compile_only_packages_jax_decides(monkeypatch):
    monkeypatch.setattr(platform.importlib.util, "find_spec", lambda name: None)
    assert chosen() is None


def test_elsewhere_jax_decides(monkeypatch):
    monkeypatch.setattr(platform.sys, "platform", "darwin")
    assert chosen() is None
