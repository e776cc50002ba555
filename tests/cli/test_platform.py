"""What jax is told before it is imported: its platform, the schedule of emulated devices."""

import os

import pytest

from maskjax.cli import platform

EIGHT = "--xla_force_host_platform_device_count=8"
IN_ORDER = "--xla_cpu_enable_concurrency_optimized_scheduler"
PATIENT = "--xla_cpu_collective_call_terminate_timeout_seconds"


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
    ("before", "after", "threads"),
    [
        ("", "", None),
        ("--xla_dump_to=x", "--xla_dump_to=x", None),
        (EIGHT, f"{EIGHT} {IN_ORDER}=false {PATIENT}=300", "64"),
        (f"{EIGHT} {IN_ORDER}=true", f"{EIGHT} {IN_ORDER}=true {PATIENT}=300", "64"),
    ],
)
def test_emulated_devices_have_threads_to_meet(monkeypatch, before, after, threads):
    monkeypatch.setenv("XLA_FLAGS", before)
    monkeypatch.delenv("NPROC", raising=False)
    platform.steady_emulated_devices()
    assert os.environ["XLA_FLAGS"] == after
    assert os.environ.get("NPROC") == threads


def test_a_number_of_threads_that_is_given_stands(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", EIGHT)
    monkeypatch.setenv("NPROC", "5")
    platform.steady_emulated_devices()
    assert os.environ["NPROC"] == "5"
