"""FSDP of everything that has the size of parameters: teachers, averages, moments."""

import jax
import pytest

from maskjax import build
from maskjax.config import load_config
from maskjax.plan.compile import tree_bytes
from maskjax.train.leaves import by_name

WIDE = (
    "mesh.fsdp=4",
    "mesh.data=2",
    "optim.ema=0.9",
    "model.encoder.dim=128",
    "model.encoder.heads=4",
    "model.decoder.dim=128",
    "model.decoder.heads=4",
)


@pytest.fixture(scope="module")
def parts():
    """HPM: its teacher is an average of the student."""
    config, _ = load_config("mim/hpm:tiny", [f"--config.{override}" for override in WIDE])
    return build.experiment(config, 1000)


def test_a_teacher_is_sharded_like_its_student(parts):
    state = parts.abstract_state
    params, extra = by_name(state.params), by_name(state.extra)
    teacher = {name.removeprefix("teacher/"): leaf for name, leaf in extra.items()}
    same = [name for name in teacher if name in params]
    assert len(same) == len(params)
    assert all(teacher[name].sharding.spec == params[name].sharding.spec for name in same)
    assert any("fsdp" in str(params[name].sharding.spec) for name in same)


@pytest.mark.parametrize("which", ["mu", "nu", "ema"])
def test_moments_and_the_average_are_sharded_like_the_parameters(parts, which):
    state = parts.abstract_state
    moments = by_name(state.opt_state)
    for name, leaf in by_name(state.params).items():
        (found,) = (m for key, m in moments.items() if key.endswith(f"/{which}/{name}"))
        assert found.sharding.spec == leaf.sharding.spec, name


def test_a_device_holds_about_a_quarter(parts):
    for tree in (parts.abstract_state.extra, parts.abstract_state.opt_state):
        whole = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
        assert tree_bytes(tree) < 0.3 * whole


def test_the_state_is_born_that_way(parts):
    state = parts.init()
    wanted = jax.tree.map(lambda leaf: leaf.sharding, parts.abstract_state)
    placed = jax.tree.map(lambda x, s: x.sharding.is_equivalent_to(s, x.ndim), state, wanted)
    assert all(jax.tree.leaves(placed))
