"""What jax is told before it is imported: its platform, the schedule of emulated devices."""

import os

import pytest

from maskjax.cli import platform

EIGHT = "--xla_force_host_platform_device_count=8"
IN_ORDER = "--xla_cpu_enable_concurrency_optimized_scheduler"


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


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("--xla_dump_to=x", "--xla_dump_to=x"),
        (EIGHT, f"{EIGHT} {IN_ORDER}=false"),
        (f"{EIGHT} {IN_ORDER}=true", f"{EIGHT} {IN_ORDER}=true"),
    ],
)
def test_collectives_of_emulated_devices_are_kept_in_order(monkeypatch, before, after):
    monkeypatch.setenv("XLA_FLAGS", before)
    platform.keep_collectives_in_order()
    assert os.environ["XLA_FLAGS"] == after
