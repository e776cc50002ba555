"""The MAE step on emulated devices: one loss curve for every mesh, and what it compiles to."""

import functools
import math

import jax
import numpy as np
import optax
import pytest
import tiny
from hlo import collectives, count, result_shapes

from maskjax.method import build_method
from maskjax.train.sharding import batch_sharding, make_mesh, param_shardings
from maskjax.train.state import TrainState
from maskjax.train.step import Shardings, make_train_step

MESHES = {
    "1 device": (1, {}),
    "2 devices": (2, {"data": 2}),
    "8 devices": (8, {"data": 8}),
    "fsdp": (8, {"fsdp": 8}),
    "all axes": (8, {"replica": 2, "fsdp": 2, "tensor": 2}),
}
OPTIMIZERS = {"main": optax.adamw(1e-3, weight_decay=0.05)}


@functools.cache
def method():
    return build_method("mim.mae", tiny.MODEL, tiny.batch())


@functools.cache
def compiled(mesh_name, accumulate=1):
    """The compiled step, its shardings, and the state it starts from."""
    devices, sizes = MESHES[mesh_name]
    mesh = make_mesh({"data": 1, **sizes}, jax.devices()[:devices])
    params = tiny.params(method(), tiny.batch())
    state = TrainState(np.int32(0), params, {"main": OPTIMIZERS["main"].init(params)}, {})
    where = param_shardings(state, mesh, min_size=0)
    shardings = Shardings(mesh, where, batch_sharding(mesh))
    step = make_train_step(method(), OPTIMIZERS, accumulate=accumulate, shardings=shardings, seed=5)
    state = jax.device_put(state, where)
    batch = jax.device_put(tiny.batch(), shardings.batch)
    return step.lower(state, batch).compile(), shardings, state


@functools.cache
def curve(mesh_name, accumulate=1):
    """Losses and gradient norms of four steps."""
    step, shardings, state = compiled(mesh_name, accumulate)
    state = jax.tree.map(jax.numpy.copy, state)  # the step donates it
    seen = []
    for index in range(4):
        batch = jax.device_put(tiny.batch(step=index), shardings.batch)
        state, metrics = step(state, batch)
        seen.append([float(metrics["loss"]), float(metrics["grad_norm"])])
    return np.asarray(seen)


def test_the_curve_moves():
    losses = curve("1 device")[:, 0]
    assert len(set(losses)) == 4
    assert np.isfinite(losses).all()


@pytest.mark.parametrize(
    ("mesh_name", "accumulate"),
    [
        ("2 devices", 2),
        ("8 devices", 1),
        ("8 devices", 4),
        ("fsdp", 1),
        ("all axes", 1),
    ],
)
def test_one_loss_curve_for_every_mesh_and_accumulation(mesh_name, accumulate):
    np.testing.assert_allclose(curve(mesh_name, accumulate), curve("1 device"), rtol=1e-5)


def has_batch_axis(shape):
    """The batch is 7 * 32 and nothing else is a multiple of 7."""
    return any(size % 7 == 0 for size in shape)


def test_the_batch_axis_can_be_told_apart():
    _, _, state = compiled("1 device")
    tokens = [(224, 17, 16), (28, 5, 16), (28, 12)]
    assert all(has_batch_axis(shape) for shape in tokens)
    assert not any(has_batch_axis(leaf.shape) for leaf in jax.tree.leaves(state))


def test_data_parallel_only_reduces_gradients_and_metrics():
    text = compiled("8 devices")[0].as_text()
    assert collectives(text).keys() == {"all-reduce"}
    shapes = result_shapes(text, "all-reduce")
    assert not any(has_batch_axis(shape) for shape in shapes)
    # What is reduced is the gradient, once, and a handful of scalars.
    num_params = sum(leaf.size for leaf in jax.tree.leaves(compiled("8 devices")[2].params))
    assert num_params <= sum(map(math.prod, shapes)) <= num_params + 16


def test_fsdp_only_gathers_parameters_and_reduces_gradients():
    step, _, state = compiled("fsdp")
    text = step.as_text()
    assert {"all-gather", "all-reduce"} <= collectives(text).keys() | {"all-reduce"}
    assert collectives(text).keys() <= {"all-gather", "all-reduce", "reduce-scatter"}
    params = [leaf.shape for leaf in jax.tree.leaves(state.params)]
    layers = [shape[1:] for shape in params]
    known = {tuple(sorted(size for size in shape if size > 1)) for shape in params + layers}
    gathered = result_shapes(text, "all-gather")
    assert gathered
    for shape in gathered:
        assert not has_batch_axis(shape)
        assert tuple(sorted(size for size in shape if size > 1)) in known, shape
    for operation in ("all-reduce", "reduce-scatter"):
        assert not any(has_batch_axis(shape) for shape in result_shapes(text, operation))


@pytest.mark.parametrize("mesh_name", ["8 devices", "fsdp", "all axes"])
def test_one_sort_and_no_scatter(mesh_name):
    text = compiled(mesh_name)[0].as_text()
    assert count(text, "sort") == 1
    assert count(text, "scatter") == 0


def test_accumulation_communicates_no_examples():
    """Micro-batches are interleaved, so that each device keeps its own examples."""
    text = compiled("8 devices", 4)[0].as_text()
    assert collectives(text).keys() == {"all-reduce"}
    assert not any(has_batch_axis(shape) for shape in result_shapes(text, "all-reduce"))


@pytest.mark.parametrize("mesh_name", ["8 devices", "fsdp"])
def test_the_donated_bytes_are_the_state(mesh_name):
    step, _, state = compiled(mesh_name)
    held = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state))
    assert step.memory_analysis().alias_size_in_bytes >= held
