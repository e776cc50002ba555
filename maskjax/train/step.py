"""The one training step: phases, gradients, exact accumulation, updates, extra.

Usable from a loop of your own:

    step = make_train_step(method, {"main": optax.adamw(1e-3)}, seed=0)
    state = create_state(method, {"main": optax.adamw(1e-3)}, jax.random.key(0), batch)
    state, metrics = step(state, batch)
"""

import functools
from collections.abc import Callable, Hashable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import AbstractMesh, Mesh

from maskjax import losses
from maskjax.errors import UserError
from maskjax.masking import Draws
from maskjax.method import Aux, Batch, Mean, Method, Phase, Terms, Tree
from maskjax.train.guard import guard_metrics, guarded
from maskjax.train.sharding import replicated
from maskjax.train.spikes import spikes_skipped
from maskjax.train.state import Optimizers, TrainState, optimizer_scopes
from maskjax.train.tree import subtree, with_subtree

Metrics = dict[str, Array]
StepFn = Callable[..., tuple[TrainState, Metrics]]


class Shardings(NamedTuple):
    """Where a step finds and leaves its arrays."""

    mesh: Mesh | AbstractMesh
    state: Tree
    batch: Tree


class _Context(NamedTuple):
    """What every phase of one step shares."""

    batch: Batch
    key: Array
    step: Array
    static: Hashable
    accumulate: int
    together: int


def make_train_step(
    method: Method,
    optimizers: Optimizers,
    *,
    accumulate: int = 1,
    shardings: Shardings | None = None,
    seed: int = 0,
    max_skipped: int = 0,
) -> StepFn:
    """The jitted step (state, batch, static=None) -> (state, metrics); the state is donated.

    The batch is {"image": [B, ...], "position": uint32[B, 2], ...}. Metrics are float32 scalars
    over the whole global batch: "loss" and "grad_norm" of all phases, "loss/<term>", and the
    means that the method reports.

    Args:
        method: what is trained.
        optimizers: {name: optax transformation}; most methods want {"main": ...}.
        accumulate: micro-batches per step. The result is that of the whole batch to rounding:
            sums and weights are added up over the micro-batches before any division.
        shardings: mesh and shardings of state and batch; None = one device.
        seed: of every draw.
        max_skipped: steps in a row whose loss or gradient is not finite that are left out; after
            them nothing changes any more (see `train.guard`). The state needs a guard:
            `replace(state, guard=new_guard(method, state.params))`. 0 = every step is taken.

    Raises:
        UserError: if accumulate > 1 and the method's loss couples examples, or the optimizers do
            not fit the phases.
    """
    optimizer_scopes(method, optimizers)
    if accumulate < 1:
        raise UserError(f"config.train.accumulate = {accumulate}: must be at least 1")
    if accumulate > 1 and method.coupled:
        raise UserError(
            f"config.train.accumulate = {accumulate}: this method's loss couples the examples of"
            " a batch, so micro-batches would change it; set it to 1"
        )

    def step(state: TrainState, batch: Batch, static: Hashable) -> tuple[TrainState, Metrics]:
        size = len(batch["position"])
        if size % (accumulate * method.together):
            groups = f" in groups of {method.together}" if method.together > 1 else ""
            raise UserError(
                f"config.train.accumulate = {accumulate}: does not divide a batch of {size}"
                f" examples{groups}"
            )
        key = jax.random.key(seed)
        context = _Context(batch, key, state.step, static, accumulate, method.together)
        new, metrics, leaves = _step(method, optimizers, state, context)
        if (spikes := spikes_skipped(new.opt_state)) is not None:
            metrics["guard/spikes"] = jnp.float32(spikes)
        if max_skipped:
            new = guarded(state, new, metrics["loss"], leaves, max_skipped)
            metrics |= guard_metrics(new.guard)
        return new, metrics

    options = {}
    if shardings is not None:
        options["out_shardings"] = (shardings.state, replicated(shardings.mesh))
        options["in_shardings"] = (shardings.state, shardings.batch)
    jitted = jax.jit(step, static_argnums=2, donate_argnums=0, **options)
    return _MeshBound(jitted, shardings.mesh if shardings else None)


class _MeshBound:
    """Calls and lowers a jitted step with its mesh in force; callers need not know of it."""

    def __init__(self, jitted, mesh: Mesh | AbstractMesh | None):
        self._jitted, self._mesh = jitted, mesh
        functools.update_wrapper(self, jitted)

    def __call__(self, state: TrainState, batch: Batch, static: Hashable = None):
        return self._run(self._jitted, state, batch, static)

    def lower(self, state: TrainState, batch: Batch, static: Hashable = None):
        """`jax.jit(...).lower` of the step, for reading what the compiler makes of it."""
        return self._run(self._jitted.lower, state, batch, static)

    def trace(self, state: TrainState, batch: Batch, static: Hashable = None):
        """`jax.jit(...).trace` of the step: its jaxpr, and lowering for another platform."""
        return self._run(self._jitted.trace, state, batch, static)

    def _run(self, fn, *args):
        if self._mesh is None:
            return fn(*args)
        abstract = isinstance(self._mesh, AbstractMesh)  # of devices that this process has not
        force = jax.sharding.use_abstract_mesh if abstract else jax.set_mesh
        with force(self._mesh):
            return fn(*args)


def _step(
    method: Method, optimizers: Optimizers, state: TrainState, context: _Context
) -> tuple[TrainState, Metrics, Array]:
    """New state, metrics, and bool[leaves of the gradient]: whether each is finite."""
    params, opt_state = state.params, dict(state.opt_state)
    metrics: Metrics = {"loss": jnp.float32(0)}
    squares, means, leaves = jnp.float32(0), {}, []
    for phase in method.phases:
        run = functools.partial(
            _run_phase, phase, optimizers[phase.optimizer], extra=state.extra, context=context
        )
        operands = (params, opt_state[phase.optimizer])
        if phase.every == 1:
            outputs = run(*operands)
        else:
            outputs = _sometimes(run, phase.every, context.step, operands)
        params, opt_state[phase.optimizer], (terms, aux, square) = outputs
        leaves.append(jnp.isfinite(square))
        _check_names({*metrics, *means, "grad_norm"}, {*aux, *(f"loss/{name}" for name in terms)})
        metrics["loss"] += losses.total(terms)
        metrics |= {f"loss/{name}": losses.total({name: term}) for name, term in terms.items()}
        squares, means = squares + square.sum(), {**means, **aux}
    extra = method.after_update(params, state.extra, means, context.step)
    metrics["grad_norm"] = jnp.sqrt(squares)
    # Means with axes (batch statistics, counts of codes) are for `after_update` only.
    scalars = {name: mean for name, mean in means.items() if jnp.ndim(mean.sum) == 0}
    metrics |= {n: mean.sum / jnp.maximum(mean.count, 1e-9) for n, mean in scalars.items()}
    new = TrainState(state.step + 1, params, opt_state, extra, state.guard)
    return new, metrics, jnp.concatenate(leaves)


def _check_names(taken: set[str], new: set[str]):
    if taken & new:
        raise UserError(
            f"the phases of the method report {', '.join(sorted(taken & new))} twice, or under a"
            " name of the step itself: give each term and mean a name of its own"
        )


def _sometimes(run: Callable, every: int, step: Array, operands: tuple) -> tuple:
    """Runs a phase at steps divisible by `every`; else nothing changes and its terms are 0."""
    shapes = jax.eval_shape(run, *operands)

    def skip(params: Tree, opt_state: Tree) -> tuple:
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes[2])
        return params, opt_state, zeros

    return jax.lax.cond(step % every == 0, run, skip, *operands)


def _run_phase(
    phase: Phase,
    optimizer: optax.GradientTransformation,
    params: Tree,
    opt_state: Tree,
    *,
    extra: Tree,
    context: _Context,
) -> tuple[Tree, Tree, tuple[Terms, Aux, Array]]:
    """Gradient and update of one phase: new params, new optimizer state, (terms, aux, |g|^2).

    The last is float32[leaves of the gradient].
    """
    trained = subtree(params, phase.wrt)

    def terms_of(trained: Tree, batch: Batch) -> tuple[Terms, Aux]:
        draws = Draws.keyed(context.key, batch["position"])
        full = with_subtree(params, phase.wrt, trained)
        return phase.fn(full, extra, batch, draws, context.step, context.static)

    grads, terms, aux = _gradient(terms_of, trained, context)
    optimizer = optax.with_extra_args_support(optimizer)
    updates, opt_state = optimizer.update(grads, opt_state, trained, value=losses.total(terms))
    params = with_subtree(params, phase.wrt, optax.apply_updates(trained, updates))
    terms = {name: losses.Term(*map(jnp.float32, term)) for name, term in terms.items()}
    aux = {name: Mean(*map(jnp.float32, mean)) for name, mean in aux.items()}
    squares = [jnp.sum(jnp.square(jnp.float32(leaf))) for leaf in jax.tree.leaves(grads)]
    return params, opt_state, (terms, aux, jnp.stack(squares))


def _gradient(terms_of: Callable, trained: Tree, context: _Context) -> tuple[Tree, Terms, Aux]:
    """Gradient of the total over the whole batch; terms and aux are sums over it."""
    batch, accumulate = context.batch, context.accumulate
    if accumulate == 1:
        grads, (terms, aux) = _weighted_gradient(terms_of, trained, batch, None)
        return grads, terms, aux
    cut = functools.partial(_interleave, accumulate, context.together)
    micro_batches = jax.tree.map(cut, batch)
    weights = _whole_weights(terms_of, trained, micro_batches, accumulate)

    def body(total: Tree, micro: Batch) -> tuple[Tree, tuple[Terms, Aux]]:
        grads, seen = _weighted_gradient(terms_of, trained, micro, weights)
        return jax.tree.map(jnp.add, total, grads), jax.tree.map(jnp.float32, seen)

    grads, (terms, aux) = jax.lax.scan(body, jax.tree.map(jnp.zeros_like, trained), micro_batches)
    aux = {name: Mean(mean.sum.sum(0), mean.count.sum(0)) for name, mean in aux.items()}
    # Sums and weights add up; the coefficient is a factor, the same in every micro-batch.
    terms = {
        n: losses.Term(t.sum.sum(0), t.weight.sum(0), t.coefficient[0]) for n, t in terms.items()
    }
    return grads, terms, aux


def _weighted_gradient(
    terms_of: Callable, trained: Tree, batch: Batch, weights: dict | None
) -> tuple[Tree, tuple[Terms, Aux]]:
    def objective(trained: Tree) -> tuple[Array, tuple[Terms, Aux]]:
        terms, aux = terms_of(trained, batch)
        return losses.total(terms, weights), (dict(terms), dict(aux))

    return jax.grad(objective, has_aux=True)(trained)


def _interleave(accumulate: int, together: int, x: Array) -> Array:
    """[B, ...] -> [A, B / A, ...], micro-batch a = groups a, a + A, ... of rows: no communication.

    A group is `together` rows.
    """
    rounds = x.shape[0] // (accumulate * together)
    groups = x.reshape(rounds, accumulate, together, *x.shape[1:]).swapaxes(0, 1)
    return groups.reshape(accumulate, rounds * together, *x.shape[1:])


def _whole_weights(
    terms_of: Callable, trained: Tree, micro_batches: Batch, accumulate: int
) -> dict[str, Array | float]:
    """The weight of each term over the whole batch.

    Weights known from shapes are multiplied; if any depends on data, a forward-only pass over the
    micro-batches adds them up (the compiler drops everything that only the sums need).
    """
    known: dict[str, float] = {}

    def weights_of(micro: Batch) -> dict[str, Array]:
        terms, _ = terms_of(trained, micro)
        for name, term in terms.items():
            if isinstance(term.weight, int | float | np.number):
                known[name] = accumulate * float(term.weight)
        return {name: jnp.float32(term.weight) for name, term in terms.items()}

    names = jax.eval_shape(weights_of, jax.tree.map(lambda x: x[0], micro_batches))
    if set(known) == set(names):
        return known
    sums = jax.lax.map(weights_of, micro_batches)
    return {name: known.get(name, sums[name].sum(0)) for name in names}
