"""A small training state with every kind of leaf, and how to save and compare it."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from maskjax.train.checkpoint import Checkpoints
from maskjax.train.ema import with_ema
from maskjax.train.leaves import by_name
from maskjax.train.sharding import make_mesh, param_shardings

META = {"config": {"method": "mim.mae", "sizes": [1, 2]}}
TX = with_ema(optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)), 0.9)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    """The fields of the training state."""

    step: jax.Array
    params: dict
    opt_state: dict
    extra: dict


def init(seed: int) -> State:
    keys = jax.random.split(jax.random.key(seed), 4)
    blocks = {
        "kernel": jax.random.normal(keys[0], (2, 16, 32)),
        "bias": jax.random.normal(keys[1], (2, 32)),
    }
    params = {"encoder": {"blocks": blocks, "cls_token": jax.random.normal(keys[2], (16,))}}
    extra = {
        "queue": jax.random.normal(keys[3], (8, 4)).astype(jnp.bfloat16),
        "seen": jnp.arange(16) % 3 == 0,
    }
    return State(jnp.asarray(seed, jnp.int32), params, {"main": TX.init(params)}, extra)


def abstract(shape=None, sharding=None) -> State:
    """The state's shapes, on a mesh of this shape, or all with this sharding."""
    tree = jax.eval_shape(init, 0)
    places = jax.tree.map(lambda _: sharding, tree)
    if shape:
        places = param_shardings(tree, make_mesh(shape), min_size=1)
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, places
    )


@jax.jit
def after_one_update(seed: jax.Array) -> State:
    """A state whose every leaf has its own random values, the moments included."""
    state = init(seed)
    grads = jax.tree.map(lambda p: p * 0.3 + seed, state.params)
    updates, opt_state = TX.update(grads, state.opt_state["main"], state.params)
    params = optax.apply_updates(state.params, updates)
    return State(state.step, params, {"main": opt_state}, state.extra)


def make(seed: int = 3, **mesh: int) -> State:
    state = after_one_update(seed)
    places = jax.tree.map(lambda x: x.sharding, abstract(mesh)) if mesh else None
    return jax.device_put(state, places) if mesh else state


def same(a, b) -> None:
    """Equal structure, dtypes and bits."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (name, x), y in zip(by_name(a).items(), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype, name
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes(), name


def saved(directory, state=None, steps=(3,), **kwargs) -> Path:
    with Checkpoints(directory, **kwargs) as checkpoints:
        for step in steps:
            assert checkpoints.save(step, state or make(), 64 * step, META, force=True)
    return Path(directory)
