"""The state: what it holds, that it is born sharded, and which optimizer trains what."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from maskjax.errors import UserError
from maskjax.losses import Term
from maskjax.method import Method, Phase, build_method
from maskjax.train.sharding import make_mesh, param_shardings
from maskjax.train.state import create_state, optimizer_scopes


def phase(wrt="", optimizer="main"):
    fn = lambda params, extra, batch, draws, step, static: ({"x": Term(jnp.float32(0), 1)}, {})  # noqa: E731
    return Phase(fn, wrt, optimizer)


def method(*phases):
    init = lambda key, batch: ({"g": {"w": jnp.ones(2)}, "d": {"w": jnp.ones(3)}}, {"queue": 1.0})  # noqa: E731
    return Method(init, phases, {})


def test_state_born_sharded_equals_the_one_born_on_one_device():
    batch = tiny.batch(8)
    mae = build_method("mim.mae", tiny.MODEL, batch)
    optimizers = {"main": optax.adamw(1e-3)}
    create = lambda key: create_state(mae, optimizers, key, batch)  # noqa: E731
    key = jax.random.key(3)
    plain = jax.jit(create)(key)
    mesh = make_mesh({"data": 1, "fsdp": 4, "tensor": 2})
    shardings = param_shardings(jax.eval_shape(create, key), mesh, min_size=0)
    born = jax.jit(create, out_shardings=shardings)(key)
    for leaf, sharding in zip(jax.tree.leaves(born), jax.tree.leaves(shardings), strict=True):
        assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)
    kernel = born.params["encoder"]["blocks"]["mlp"]["fc1"]["kernel"]
    assert kernel.shape == (2, 16, 32)
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(2, 4, 16)}
    moments = born.opt_state["main"][0].mu["encoder"]["blocks"]["mlp"]["fc1"]["kernel"]
    assert {shard.data.shape for shard in moments.addressable_shards} == {(2, 4, 16)}
    same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)  # noqa: E731
    jax.tree.map(same, born, plain)
    assert born.step.dtype == jnp.int32
    assert {p.dtype for p in jax.tree.leaves(born.params)} == {jnp.dtype("float32")}


def test_each_optimizer_sees_only_its_parameters():
    gan = method(phase("g", "first"), phase("d", "second"))
    optimizers = {"first": optax.adam(0.1), "second": optax.sgd(0.1, momentum=0.9)}
    assert optimizer_scopes(gan, optimizers) == {"first": "g", "second": "d"}
    state = create_state(gan, optimizers, jax.random.key(0), {})
    assert state.opt_state["first"][0].mu["w"].shape == (2,)
    assert state.opt_state["second"][0].trace["w"].shape == (3,)
    assert state.extra == {"queue": 1.0}
    assert state.step == 0


def test_two_phases_may_share_an_optimizer_for_the_same_parameters():
    assert optimizer_scopes(method(phase("g"), phase("g")), {"main": optax.sgd(1)}) == {"main": "g"}


def test_optimizers_that_do_not_fit_the_phases():
    with pytest.raises(UserError, match="wants the optimizer 'second'; there are: main"):
        optimizer_scopes(method(phase(), phase("d", "second")), {"main": optax.sgd(1)})
    with pytest.raises(UserError, match="'main' trains both 'g' and 'd'"):
        optimizer_scopes(method(phase("g"), phase("d")), {"main": optax.sgd(1)})


def test_a_phase_over_parameters_that_do_not_exist():
    with pytest.raises(KeyError, match="no 'gen' of 'gen' among the parameters: g, d"):
        create_state(method(phase("gen")), {"main": optax.sgd(1)}, jax.random.key(0), {})
