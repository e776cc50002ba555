"""What ViT-L's MAE step may cost, as the TPU and GPU compilers see it: docs/performance.md.

`pytest -rP` shows the figures.
"""

import jax
import pytest
from compiled_steps import IMAGES, compiled, param_shapes

from maskjax import build
from maskjax.config import load_config
from maskjax.plan.collectives import bytes_of, foreign_gathers, totals
from maskjax.plan.ideal import ideal_traffic

pytestmark = pytest.mark.slow

GIB = 2**30
# GiB per chip at 16 images each, FSDP 16 x DP 16 on 256 v5e chips, and how often a step may gather
# a parameter: full rematerialisation recomputes the forward pass, with gathers of its own.
REMAT = {"none": (2.6, 2), "dots": (0.95, 2), "full": (0.45, 3)}


def large(remat):
    mesh = ("mesh.fsdp=16", "mesh.data=16")
    return compiled("v5e:16x16", "mim/mae:l16", *mesh, f"model.remat={remat}")


@pytest.mark.parametrize("remat", REMAT)
def test_peak_memory(remat):
    _, step = large(remat)
    peak, limit = step.memory.peak / GIB, REMAT[remat][0]
    print(f"ViT-L, v5e:16x16, FSDP 16 x DP 16, remat {remat}: peak {peak:.2f} GiB (goal {limit})")
    assert peak <= limit
    assert step.fits


@pytest.mark.parametrize("remat", REMAT)
def test_traffic(remat):
    """Parameters and gradients, hardly more than they have to move; never an activation."""
    parts, step = large(remat)
    ideal = ideal_traffic(parts.abstract_state.params, parts.mesh)
    moved = bytes_of(step.collectives) / ideal.total
    print(f"remat {remat}: moves {moved:.3f} of the ideal bytes (goal 1.05)")
    for (kind, dtype), total in totals(step.collectives).items():
        print(f"  {kind} {dtype}: {total.bytes / 2**20:.0f} MiB in {total.executions}")
    assert moved <= 1.05
    assert {one.kind for one in step.collectives} == {"all-gather", "reduce-scatter", "all-reduce"}
    assert foreign_gathers(step.collectives, param_shapes(parts), REMAT[remat][1]) == []
    assert bytes_of(step.collectives, "all-gather") >= 0.95 * ideal.all_gather  # it was all seen


@pytest.mark.parametrize("remat", REMAT)
def test_one_sort_no_scatter_and_everything_donated(remat):
    _, step = large(remat)
    assert step.program.count("sort") == 1
    assert step.program.count("scatter") == 0
    assert step.program.unknown_loops() == []
    assert step.donated
    # The state is all that is donated, and it is hardly padded.
    assert step.state_bytes <= step.memory.reused <= 1.02 * step.state_bytes


def test_flops_of_the_compiled_step():
    """XLA counts a loop's body once, so this is the formula at one layer each."""
    parts, step = large("none")
    given = ["--config.model.encoder.depth=1", "--config.model.decoder.depth=1"]
    shallow = build.experiment(load_config("mim/mae:l16", given)[0], IMAGES, jax.devices()[:1])
    formula = shallow.method.step_flops * parts.config.data.global_batch / parts.mesh.size
    counted = step.compiled.cost_analysis()["flops"]
    print(f"FLOPs counted: {counted / formula:.3f} of the formula")
    assert counted == pytest.approx(formula, rel=0.03)


def test_tensor_parallelism_only_reduces():
    parts, step = compiled("v5e:16x16", "mim/mae:l16", "mesh.tensor=4", "mesh.data=64")
    assert {one.kind for one in step.collectives} == {"all-reduce"}
    # But for scalars of the gradient norm.
    over_tensor = [one for one in step.collectives if one.group == 4 and one.parts[0].dims]
    layers = parts.config.model.encoder.depth + parts.config.model.decoder.depth
    assert sum(one.executions for one in over_tensor) == 4 * layers
    assert step.fits


def test_data_parallelism_on_eight_h100():
    """512 images each; the compiler does not look at the size of the card."""
    parts, step = compiled("h100:1x8", "mim/mae:l16", "mesh.data=8")
    assert parts.config.data.global_batch == 8 * 512
    print(f"ViT-L, 8 x H100, 512 images each: peak {step.memory.peak / GIB:.1f} GiB (goal 66)")
    assert step.memory.peak / GIB <= 66
    assert {one.kind for one in step.collectives} == {"all-reduce"}
    assert step.donated
