"""The step on toy methods: exact accumulation, phases, extra, metrics, donation, errors."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from maskjax.errors import UserError
from maskjax.losses import Term
from maskjax.masking import Draws
from maskjax.method import Mean, Method, Phase
from maskjax.train.sharding import batch_sharding, make_mesh, param_shardings, replicated
from maskjax.train.state import create_state
from maskjax.train.step import Shardings, make_train_step

B, D = 16, 4
MAIN = {"main": optax.sgd(0.5)}


def weighted(params, extra, batch, draws, step, static):
    """A loss whose weights depend on the data and on the draws, beside one with static weights."""
    x = batch["image"]
    error = jnp.square(x @ params["w"] - 1)
    # Early examples weigh far more, so that micro-batches differ.
    drawn = jnp.floor(4 * draws.uniform("weight"))
    weight = drawn * jnp.where(batch["position"][:, 1] % 16 < 3, 50.0, 1.0)
    terms = {
        "dynamic": Term((error * weight).sum(), weight.sum()),
        "static": Term(jnp.abs(params["w"] * x).sum(), x.size, 0.25),
    }
    ids = jnp.argsort(draws.uniform("mask", (8,)))
    visible = ((batch["position"][:, 1:] + 1.0) * ids).sum(0)
    return terms, {
        "heavy": Mean(weight.sum(), weight.size),
        "visible": Mean(visible, len(x)),
    }


def statistics(params, extra, aux, step):
    return {
        "heavy": 0.5 * extra["heavy"] + aux["heavy"].sum / aux["heavy"].count,
        "visible": extra["visible"] + aux["visible"].sum,
        "steps": extra["steps"] + step,
    }


def init(key, batch):
    extra = {"heavy": jnp.float32(0), "visible": jnp.zeros(8), "steps": jnp.int32(0)}
    return {"w": jnp.linspace(-1, 1, D)}, extra


TOY = Method(init, (Phase(weighted),), {}, after_update=statistics)


def batch_of(step=0):
    images = np.random.default_rng(step).normal(size=(B, D)).astype(np.float32)
    return {"image": images, "position": tiny.positions(B, B * step)}


def state_of(method=TOY, optimizers=MAIN):
    return create_state(method, optimizers, jax.random.key(0), batch_of())


def sharded(method, optimizers, devices, sizes=None, **options):
    """A step on a mesh of some devices, its state and a function that places a batch."""
    mesh = make_mesh(sizes or {"data": -1}, jax.devices()[:devices])
    state = state_of(method, optimizers)
    where = param_shardings(state, mesh, min_size=0)
    step = make_train_step(
        method, optimizers, shardings=Shardings(mesh, where, batch_sharding(mesh)), **options
    )
    place = lambda batch: jax.device_put(batch, batch_sharding(mesh))  # noqa: E731
    return step, jax.device_put(state, where), place


def run(devices, accumulate, sizes=None, steps=3):
    step, state, place = sharded(TOY, MAIN, devices, sizes, accumulate=accumulate, seed=7)
    history = []
    for index in range(steps):
        state, metrics = step(state, place(batch_of(index)))
        # Copied to the host at once: the next step donates the state.
        history.append(jax.tree.map(np.asarray, metrics | {"extra": state.extra}))
    return jax.tree.map(np.asarray, state.params), history


@pytest.fixture(scope="module")
def reference():
    return run(1, 1)


def test_the_reference_by_hand(reference):
    """The first gradient step written out, with the weights of the whole batch."""
    batch = batch_of()
    params = jnp.linspace(-1, 1, D)
    heavy = reference[1][0]["heavy"]
    assert heavy > 1

    def loss(w):
        draws = Draws.keyed(jax.random.key(7), batch["position"])
        weight = np.floor(4 * draws.uniform("weight"))
        weight = weight * np.where(np.arange(B) < 3, 50.0, 1.0)
        error = jnp.square(batch["image"] @ w - 1)
        dynamic = (error * weight).sum() / weight.sum()
        return dynamic + 0.25 * jnp.abs(w * batch["image"]).mean()

    value, gradient = jax.value_and_grad(loss)(params)
    np.testing.assert_allclose(reference[1][0]["loss"], value, rtol=1e-6)
    np.testing.assert_allclose(reference[1][0]["grad_norm"], np.linalg.norm(gradient), rtol=1e-6)
    one = run(1, 1, steps=1)[0]["w"]
    np.testing.assert_allclose(one, params - 0.5 * gradient, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("devices", "accumulate", "sizes"),
    [
        (1, 2, None),
        (1, 4, None),
        (2, 1, None),
        (2, 4, None),
        (8, 1, None),
        (8, 2, None),
        (8, 1, {"data": 1, "fsdp": 4, "tensor": 2}),
        (8, 4, {"replica": 2, "data": 1, "fsdp": 2, "tensor": 2}),
    ],
)
def test_devices_and_micro_batches_change_nothing(reference, devices, accumulate, sizes):
    params, history = run(devices, accumulate, sizes)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)  # noqa: E731
    jax.tree.map(close, (params, history), reference)
    for found, expected in zip(history, reference[1], strict=True):
        # Sums of whole numbers: equal only if every example got the same mask.
        np.testing.assert_array_equal(found["extra"]["visible"], expected["extra"]["visible"])


def test_micro_batches_do_differ_in_weight():
    """Else the test above would prove nothing: the mean of micro-batch losses is another loss."""
    batch = batch_of()
    draws = Draws.keyed(jax.random.key(7), batch["position"])
    params = {"w": jnp.linspace(-1, 1, D)}
    terms, _ = weighted(params, {}, batch, draws, 0, None)
    parts = []
    for start in range(4):
        micro = {name: array[start::4] for name, array in batch.items()}
        draws = Draws.keyed(jax.random.key(7), micro["position"])
        part, _ = weighted(params, {}, micro, draws, 0, None)
        parts.append(part["dynamic"].sum / part["dynamic"].weight)
    exact = terms["dynamic"].sum / terms["dynamic"].weight
    assert abs(np.mean(parts) - exact) > 0.05 * exact


def test_metrics_and_extra(reference):
    history = reference[1]
    assert {"loss", "grad_norm", "loss/dynamic", "loss/static", "heavy"} < set(history[0])
    # A mean with axes is for `after_update` alone: metrics are scalars.
    assert "visible" not in history[0]
    for metrics in history:
        parts = metrics["loss/dynamic"] + metrics["loss/static"]
        np.testing.assert_allclose(metrics["loss"], parts, rtol=1e-6)
    assert history[0]["loss"].dtype == np.float32
    expected = 0.0
    for metrics in history:
        expected = 0.5 * expected + metrics["heavy"]
        np.testing.assert_allclose(metrics["extra"]["heavy"], expected, rtol=1e-6)
    assert history[-1]["extra"]["steps"] == 0 + 1 + 2


def test_a_term_of_weight_zero_counts_zero():
    def fn(params, extra, batch, draws, step, static):
        never = (batch["image"][:, 0] > 100).sum()
        terms = {
            "rare": Term(jnp.square(params["w"]).sum() * never, never),
            "usual": Term((params["w"] ** 2).sum(), 1),
        }
        return terms, {"share": Mean(never, never)}

    method = dataclasses.replace(TOY, phases=(Phase(fn),), after_update=lambda p, e, a, s: e)
    for accumulate in (1, 4):
        step = make_train_step(method, MAIN, accumulate=accumulate)
        state, metrics = step(state_of(), batch_of())
        assert metrics["loss/rare"] == 0
        assert metrics["share"] == 0
        assert np.isfinite(state.params["w"]).all()


# Phases.


def two_phases(every=2):
    def generator(params, extra, batch, draws, step, static):
        return {"g": Term(params["g"]["w"] * params["d"]["w"], 1)}, {}

    def critic(params, extra, batch, draws, step, static):
        return {"d": Term(params["d"]["w"] * params["g"]["w"] ** 2, 1)}, {
            "seen": Mean(params["g"]["w"], 1)
        }

    init = lambda key, batch: ({"g": {"w": jnp.float32(1)}, "d": {"w": jnp.float32(2)}}, {})  # noqa: E731
    phases = (Phase(generator, "g", "first"), Phase(critic, "d", "second", every))
    return Method(init, phases, {})


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_phases_run_in_order_on_their_own_parameters(every, accumulate):
    optimizers = {"first": optax.sgd(0.1), "second": optax.sgd(0.2, momentum=0.9)}
    method = two_phases(every)
    step = make_train_step(method, optimizers, accumulate=accumulate)
    state = state_of(method, optimizers)
    g, d, trace = 1.0, 2.0, 0.0
    for index in range(5):
        state, metrics = step(state, batch_of(index))
        first = d
        terms = {"loss/g": g * d, "loss/d": 0.0, "seen": 0.0}
        g -= 0.1 * first
        second = g**2  # sees the update of the first phase
        squares = first**2
        if index % every == 0:
            terms |= {"loss/d": d * g**2, "seen": g}
            trace = 0.9 * trace + second
            squares += second**2
            d -= 0.2 * trace
        for name, value in terms.items():
            np.testing.assert_allclose(metrics[name], value, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(metrics["grad_norm"], np.sqrt(squares), rtol=1e-5)
        np.testing.assert_allclose(state.params["g"]["w"], g, rtol=1e-5)
        np.testing.assert_allclose(state.params["d"]["w"], d, rtol=1e-5)
    assert state.step == 5


def test_static_values_reach_the_method():
    def fn(params, extra, batch, draws, step, static):
        kept = batch["image"][:, : static or D]
        return {"x": Term((kept @ params["w"][: kept.shape[1]]).sum(), len(kept))}, {}

    method = dataclasses.replace(TOY, phases=(Phase(fn),), after_update=lambda p, e, a, s: e)
    step = make_train_step(method, MAIN)
    for static in (2, 3, None):
        _, metrics = step(state_of(), batch_of(), static)
        kept = batch_of()["image"][:, : static or D]
        expected = (kept @ np.linspace(-1, 1, D)[: kept.shape[1]]).mean()
        np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)


def test_the_step_count_reaches_the_method():
    def fn(params, extra, batch, draws, step, static):
        return {"x": Term(params["w"].sum() * 0 + step, 1)}, {}

    method = dataclasses.replace(TOY, phases=(Phase(fn),), after_update=lambda p, e, a, s: e)
    step, state = make_train_step(method, MAIN), state_of()
    for index in range(3):
        state, metrics = step(state, batch_of())
        assert metrics["loss"] == index


def test_the_seed_matters():
    losses = [
        make_train_step(TOY, MAIN, seed=seed)(state_of(), batch_of())[1]["loss"] for seed in (0, 1)
    ]
    assert losses[0] != losses[1]


# Where things lie.


def test_the_whole_state_is_donated():
    optimizers = {"main": optax.adamw(1e-3)}
    for devices, sizes in ((1, None), (8, {"data": 2, "fsdp": 4})):
        step, state, place = sharded(TOY, optimizers, devices, sizes)
        compiled = step.lower(state, place(batch_of())).compile()
        num_bytes = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state))
        assert compiled.memory_analysis().alias_size_in_bytes >= num_bytes
        new, _ = step(state, place(batch_of()))
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
        assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(new))


def test_state_keeps_its_sharding_and_metrics_are_replicated():
    step, state, place = sharded(TOY, MAIN, 8, {"data": 2, "fsdp": 4})
    before = jax.tree.map(lambda leaf: leaf.sharding, state)
    assert state.params["w"].sharding.spec == jax.P("fsdp")
    for _ in range(2):
        state, metrics = step(state, place(batch_of()))
        same = lambda leaf, sharding: leaf.sharding.is_equivalent_to(sharding, leaf.ndim)  # noqa: E731
        assert jax.tree.all(jax.tree.map(same, state, before))
        mesh = before.step.mesh
        assert all(m.sharding.is_equivalent_to(replicated(mesh), m.ndim) for m in metrics.values())


def test_one_executable_serves_every_step():
    step, state, place = sharded(TOY, MAIN, 8)
    with jax.log_compiles(False):
        for index in range(3):
            state, _ = step(state, place(batch_of(index)))
    assert step.__wrapped__._cache_size() == 1


# Errors.


def test_coupled_methods_refuse_micro_batches():
    coupled = dataclasses.replace(TOY, coupled=True)
    make_train_step(coupled, MAIN)
    with pytest.raises(UserError, match=r"config\.train\.accumulate = 2: .*couples the examples"):
        make_train_step(coupled, MAIN, accumulate=2)


def test_accumulate_must_be_positive():
    with pytest.raises(UserError, match=r"config\.train\.accumulate = 0: must be at least 1"):
        make_train_step(TOY, MAIN, accumulate=0)


def test_a_batch_that_micro_batches_do_not_divide():
    step = make_train_step(TOY, MAIN, accumulate=3)
    with pytest.raises(UserError, match=r"accumulate = 3: .*16 examples"):
        step(state_of(), batch_of())


def test_optimizers_must_fit():
    with pytest.raises(UserError, match="wants the optimizer 'main'"):
        make_train_step(TOY, {"other": optax.sgd(0.1)})


def test_a_phase_without_terms():
    empty = dataclasses.replace(TOY, phases=(Phase(lambda *args: ({}, {})),))
    with pytest.raises(ValueError, match="returned no loss terms"):
        make_train_step(empty, MAIN)(state_of(), batch_of())
