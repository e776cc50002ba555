"""A plan: what the estimate says beside the compiler, and what is said where nothing is known."""

import dataclasses
import json

import jax
import pytest
from compiled_steps import IMAGES, compiled
from test_small_steps import MESHES, SMALL

from maskjax.config import load_config
from maskjax.plan import report, table
from maskjax.plan.compile import tree_bytes
from maskjax.plan.hardware import hardware
from maskjax.plan.hlo import Shape

GIVEN = [f"--config.{override}" for override in SMALL]


def estimated(*overrides, topology="v5e:4x4", config="mim/mae:b16", **options):
    given = [*GIVEN, *(f"--config.{override}" for override in overrides)]
    loaded, _ = load_config(config, given)
    options = {"compiler": False, "count_flops": False, **options}
    return report.make_plan(loaded, hardware(topology), num_examples=IMAGES, **options)


@pytest.fixture(scope="module")
def plan():
    return estimated(*MESHES["fsdp"])


def test_the_state_on_a_device_is_that_of_the_sharded_step(plan):
    parts, step = compiled("v5e:4x4", "mim/mae:b16", *SMALL, *MESHES["fsdp"])
    state = parts.abstract_state
    assert plan.parameter_bytes == tree_bytes(state.params)
    assert plan.optimizer_bytes == tree_bytes(state.opt_state)
    assert plan.mesh == dict(parts.mesh.shape)
    counters = 4 + tree_bytes(state.guard)  # of steps, and of those that were left out
    assert plan.parameter_bytes + plan.optimizer_bytes + counters == step.state_bytes
    assert plan.batch_bytes == 14 * (64 * 64 * 3 + 8)


@pytest.mark.parametrize("remat", ["none", pytest.param("full", marks=pytest.mark.slow)])
def test_the_estimate_of_activations_keeps_its_promise(remat):
    overrides = (*MESHES["fsdp"], f"model.remat={remat}", "data.global_batch=3584")
    _, step = compiled("v5e:4x4", "mim/mae:b16", *SMALL[:-1], *overrides)
    found = estimated(*overrides).activation_bytes
    true = step.memory.peak - step.memory.arguments
    assert true / report.ESTIMATE_FACTOR <= found <= true * report.ESTIMATE_FACTOR


def test_without_a_compiler_collectives_are_unknown_and_it_says_what_they_rest_on(plan):
    assert plan.collectives is None
    assert plan.how == report.ESTIMATED
    assert "libtpu" not in plan.versions
    text = table.plan_text(plan)
    assert "MiB moved" in text and "unknown; parameters and gradients alone" in text
    assert "maskjax[aot]" in text
    assert "within a factor of 1.5" in text.splitlines()[-1]


def test_work_and_speed(plan):
    config, _ = load_config("mim/mae:b16", GIVEN)
    assert plan.flops == 224 * plan.flops / plan.batch > 0
    half = estimated(*MESHES["fsdp"], mfu=0.2)
    assert half.images_per_second == pytest.approx(plan.images_per_second / 2)
    # 16 chips of 197 TFLOP/s in bfloat16, at 40 %.
    expected = 0.4 * 16 * 197e12 / (plan.flops / plan.batch)
    assert config.model.dtype == "bfloat16"
    assert plan.images_per_second == pytest.approx(expected)


@pytest.mark.parametrize("variant", ["b16", pytest.param("h14", marks=pytest.mark.slow)])
def test_the_counted_work_is_that_of_the_formula(variant):
    """XLA's count of everything, from shallow steps, beside the matmuls of the formula."""
    config, _ = load_config(f"mim/mae:{variant}", ["--config.data.global_batch=16"])
    found = report.make_plan(
        config, hardware("v5e:1x1"), num_examples=IMAGES, compiler=False, count_flops=True
    )
    assert found.counted_flops == pytest.approx(found.flops, rel=0.03)


@pytest.mark.parametrize(
    ("activations", "tensor", "fits"),
    [(55, 1, True), (65, 1, None), (130, 1, None), (140, 1, False), (140, 4, None)],
)
def test_an_estimate_only_decides_what_its_error_leaves_decided(activations, tensor, fits):
    """10 bytes of state on a device of 100; a tensor axis may divide activations."""
    assert report._judge(10, activations, 100, tensor) is fits


def test_what_does_not_divide_is_named():
    found = estimated("mesh.tensor=8", "mesh.data=2", "data.global_batch=14")
    assert any(
        "tensor=8 divides no axis of" in text and "query" in text for text in found.indivisible
    )
    assert "whole" in table.plan_text(found)


def test_a_method_with_teachers_has_extra_bytes_and_ramps_have_variants():
    loaded, _ = load_config("mim/hpm:tiny", ["--config.mesh.fsdp=2", "--config.mesh.data=2"])
    found = report.make_plan(
        loaded, hardware("v5e:2x2"), num_examples=1000, compiler=False, count_flops=False
    )
    assert found.extra_bytes > 0
    assert found.variants == 1


def test_gpu_nodes_are_estimated_too():
    found = estimated("mesh.fsdp=8", topology="h100:1x8")
    assert found.usable_bytes == int(0.9 * 84978434048)
    assert found.fits
    assert "maskjax[aot-gpu]" in table.plan_text(found)


def blank(plan, **changes):
    nothing = {"activation_bytes": None, "peak_bytes": None, "collectives": None}
    return dataclasses.replace(plan, how=report.COMPILED, **{**nothing, **changes})


@pytest.mark.parametrize(
    ("fits", "error", "verdict"),
    [
        (None, "INTERNAL: RET_CHECK", "unknown: it did not compile"),
        (False, "does not fit: ...", "no: the compiler gave up on it"),
    ],
)
def test_what_the_compiler_does_not_tell_is_unknown(plan, fits, error, verdict):
    text = table.plan_text(blank(plan, fits=fits, error=error))
    assert text.splitlines()[-1].endswith(verdict)
    assert error in text
    assert "MiB moved" in text and "unknown" in text
    assert "activations unknown, peak unknown" in text


def test_an_unreadable_program_still_has_its_memory(plan):
    found = blank(plan, peak_bytes=2**30, activation_bytes=2**29, fits=True)
    text = table.plan_text(found)
    assert text.splitlines()[-1].endswith("yes: 1.00 of 15.75 GiB per device")
    assert "unknown; parameters" in text


def test_json_holds_everything(plan):
    values = json.loads(json.dumps(plan.to_json()))
    assert values.keys() == {field.name for field in dataclasses.fields(plan)}
    assert values["ideal"]["all_gather"] == plan.ideal.all_gather
    assert values["collectives"] is None


def test_collectives_are_rows(plan):
    part = Shape("bf16", (2**20,))
    found = dataclasses.replace(plan, collectives=[("all-gather", "bf16", 3, 3 * part.bytes)])
    assert "all-gather bf16: 6 in 3" in table.plan_text(found)
    assert "MiB moved       nothing" in table.plan_text(dataclasses.replace(plan, collectives=[]))


def test_compiled_and_estimated_plans_have_the_same_fields():
    found = report.make_plan(
        load_config("mim/mae:tiny")[0],
        hardware("v5e:1x1"),
        num_examples=1000,
        compiler=True,
        count_flops=False,
    )
    assert found.fits
    assert found.collectives == []
    assert found.how == report.COMPILED
    assert found.versions["libtpu"]
    assert jax.devices()[0].platform == "cpu"
