"""Before any test imports jax: 8 emulated CPU devices, and a compilation cache that is kept."""

import os
from pathlib import Path

import pytest

from maskjax.cli.platform import steady_emulated_devices

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "jax-tests"

flags = os.environ.get("XLA_FLAGS", "")
if "xla_force_host_platform_device_count" not in flags:
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=8".strip()
steady_emulated_devices()
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# The cache is set through the environment so that tests which start processes share it, and so that
# this file need not import jax: `import maskjax.masking` is tested in a process that must stay
# clean.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")


def pytest_collection_modifyitems(items) -> None:
    """Slow tests may take an hour before they count as hanging (others: pyproject.toml)."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(3600))


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory) -> Path:
    """The tests keep their indices of data files to themselves."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["MASKJAX_CACHE"] = str(folder)
    return folder
