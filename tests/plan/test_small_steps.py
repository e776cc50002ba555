"""A small MAE compiled for 16 TPU chips: what the sharded step may contain and what not."""

import jax
import pytest
from compiled_steps import compiled, param_shapes

from maskjax import build
from maskjax.config import load_config
from maskjax.plan.collectives import bytes_of, foreign_gathers, totals
from maskjax.plan.compile import OutOfMemoryError
from maskjax.plan.flops import counted_flops
from maskjax.plan.ideal import ideal_traffic

# The batch is 7 * 32, of which each device has 14: no axis of a parameter and no token count is a
# multiple of 7, so that arrays with a batch axis are told apart.
SMALL = (
    "model.image_size=(64,64)",
    "model.encoder.dim=256",
    "model.encoder.depth=3",
    "model.encoder.heads=4",
    "model.decoder.dim=128",
    "model.decoder.depth=2",
    "model.decoder.heads=4",
    "data.global_batch=224",
)
MESHES = {
    "fsdp": ("mesh.fsdp=4", "mesh.data=4"),
    "tensor": ("mesh.tensor=4", "mesh.data=4"),
}


def small(mesh):
    return compiled("v5e:4x4", "mim/mae:b16", *SMALL, *MESHES[mesh])


def has_batch_axis(part):
    return any(size % 7 == 0 for size in part.dims if size)


@pytest.mark.parametrize("mesh", MESHES)
def test_one_sort_no_scatter_and_everything_donated(mesh):
    parts, step = small(mesh)
    assert step.program.count("sort") == 1
    assert step.program.count("scatter") == 0
    assert step.donated
    assert step.memory.reused >= step.state_bytes
    assert step.program.unknown_loops() == []
    assert step.fits
    assert {device.device_kind for device in parts.mesh.devices.flat} == {"TPU v5 lite"}


def test_fsdp_moves_parameters_and_gradients_and_nothing_else():
    parts, step = small("fsdp")
    assert {one.kind for one in step.collectives} == {"all-gather", "reduce-scatter", "all-reduce"}
    assert not [one for one in step.collectives if any(map(has_batch_axis, one.parts))]
    assert foreign_gathers(step.collectives, param_shapes(parts)) == []
    ideal = ideal_traffic(parts.abstract_state.params, parts.mesh)
    assert bytes_of(step.collectives) <= 1.05 * ideal.total
    assert bytes_of(step.collectives, "all-gather") >= 0.9 * ideal.all_gather  # it was all seen
    assert bytes_of(step.collectives, "reduce-scatter") >= 0.9 * ideal.reduce_scatter


def test_tensor_parallelism_only_reduces():
    """Activations twice per block and pass, gradients over `data`: no array changes hands."""
    parts, step = small("tensor")
    assert {one.kind for one in step.collectives} == {"all-reduce"}
    activations = [one for one in step.collectives if any(map(has_batch_axis, one.parts))]
    layers = parts.config.model.encoder.depth + parts.config.model.decoder.depth
    assert sum(one.executions for one in activations) == 4 * layers
    assert {one.group for one in activations} == {4}


def test_the_traffic_adds_up():
    _, step = small("fsdp")
    sums = totals(step.collectives)
    assert sum(total.bytes for total in sums.values()) == bytes_of(step.collectives)
    assert sum(total.executions for total in sums.values()) > len(step.collectives)  # loops


def test_what_does_not_fit_is_an_error_with_sizes():
    with pytest.raises(OutOfMemoryError) as caught:
        compiled("v5e:1x1", "mim/mae:b16", *SMALL[:-1], "data.global_batch=524288", "mesh.data=1")
    assert caught.value.needed > caught.value.available > 15 * 2**30
    assert "config.model.remat" in str(caught.value)


def test_flops_of_the_formula_are_those_that_xla_counts():
    """ViT-L at its real width: the depth is extrapolated, so that no deep step is lowered."""
    config, _ = load_config("mim/mae:l16", ["--config.data.global_batch=16"])
    parts = build.experiment(config, 1000, jax.devices()[:1])
    formula = 16 * parts.method.step_flops
    assert counted_flops(config) == pytest.approx(formula, rel=0.03)
