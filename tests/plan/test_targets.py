"""Hardware by name, and what is said when it cannot be described."""

import os

import jax
import pytest

from maskjax.errors import UserError
from maskjax.plan import target as targets
from maskjax.plan.compile import OutOfMemoryError, out_of_memory

TPUS = {"v3:2x2": 8, "v4:2x2x1": 4, "v4:4x4x4": 64, "v5e:16x16": 256, "v5p:4x4x4": 64, "v6e:2x2": 4}


def needs(name):
    package = targets.missing(name)
    if package:
        pytest.skip(f"cannot compile for {name} here: pip install '{package}' (Linux only)")


@pytest.mark.parametrize("name", TPUS)
def test_tpu_slices(name):
    needs(name)
    before = dict(os.environ)
    found = targets.target(name)
    assert len(found.devices) == targets.num_devices(name) == TPUS[name]
    assert found.devices[0].platform == "tpu"
    assert 2**33 < found.memory < 2**37
    assert dict(os.environ) == before  # nothing is left behind
    assert jax.devices()[0].platform == "cpu"


def test_gpu_nodes():
    assert targets.num_devices("h100:4x8") == 32
    needs("h100:4x8")
    found = targets.target("h100:4x8")
    assert len(found.devices) == 32
    assert "H100" in found.device_kind
    assert found.memory == 84978434048


@pytest.mark.parametrize("name", ["v5litepod-256", "v9:2x2", "v5e", "v5e:16", "h100:8", "", "cpu"])
def test_unknown_names(name):
    with pytest.raises(UserError, match="is neither a TPU slice such as v5e:16x16"):
        targets.target(name)


@pytest.mark.parametrize("name", ["v5e:3x7", "v5p:3x1x1"])
def test_slices_that_are_not_made(name):
    needs(name)
    with pytest.raises(UserError, match=f"--topology={name}: "):
        targets.target(name)


@pytest.mark.parametrize(("name", "package"), [("v5e:2x2", "[aot]"), ("h100:1x8", "[aot-gpu]")])
def test_a_missing_compiler_is_named(name, package, monkeypatch):
    monkeypatch.setattr(targets, "_installed", lambda module: False)
    targets.target.cache_clear()
    with pytest.raises(UserError, match="pip install 'maskjax"):
        targets.target(name)
    assert package in targets.missing(name)


@pytest.mark.parametrize(
    ("message", "needed", "available"),
    [
        (
            "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total"
            " memory required for HLO temporaries (97.08G) exceeds available HBM (15.75G). HLO m",
            97.08,
            15.75,
        ),
        ("... required for HLO temporaries (1.50T) exceeds available HBM (30.75G)", 1536, 30.75),
        ("Ran out of memory in memory space hbm. Used 18.29G of 15.48G hbm.", 18.29, 15.48),
    ],
)
def test_messages_about_memory_become_sizes(message, needed, available):
    error = out_of_memory(message)
    assert isinstance(error, OutOfMemoryError)
    assert (error.needed / 2**30, error.available / 2**30) == pytest.approx((needed, available))
    assert f"{needed:.2f} GiB" in str(error)


def test_other_messages_are_left_alone():
    assert out_of_memory("INTERNAL: something else") is None
