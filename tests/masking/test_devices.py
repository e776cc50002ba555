"""Masking on 8 devices: the same numbers, and nothing sent between them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hlo import collectives
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from maskjax import masking
from maskjax.masking import Draws, tokens

GRID, VISIBLE = (3, 4), 5


@pytest.fixture(scope="module")
def rows():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec("data"))


@pytest.fixture(scope="module")
def given(rows):
    """Sharded inputs, by name."""
    rng = np.random.default_rng(0)
    arrays = {
        "key": jax.random.split(jax.random.key(0), 16),
        "position": np.stack([np.zeros(16), np.arange(16)], 1).astype(np.uint32),
        "noise": rng.uniform(size=(16, 12)).astype(np.float32),
        "x": rng.normal(size=(16, 12, 3)).astype(np.float32),
        "image": rng.normal(size=(16, 6, 12, 3)).astype(np.float32),
    }
    return {name: jax.device_put(array, rows) for name, array in arrays.items()}


def split_of(noise, order="noise"):
    return masking.random(noise, GRID, num_visible=VISIBLE, order=order)


def drawn(position):
    return split_of(Draws.keyed(jax.random.key(1), position).uniform("mask", (12,))).ids


def visible_gradient(method, x, noise):
    def loss(x):
        return jnp.square(tokens.gather(x, split_of(noise).visible_ids, method=method)).sum((1, 2))

    return jax.vjp(loss, x)[1](jnp.ones(16))[0]


def scatter_gradient(x, noise):
    def loss(x):
        return jnp.square(tokens.scatter(x, split_of(noise).visible_ids, 12)).sum((1, 2))

    return jax.vjp(loss, x[:, :VISIBLE])[1](jnp.ones(16))[0]


CASES = {
    "generator": (("key",), jax.vmap(lambda k: split_of(k).ids)),
    "generator in raster order": (("key",), jax.vmap(lambda k: split_of(k, "raster").ids)),
    "batched noise": (("noise",), lambda noise: split_of(noise).ids),
    "draws by position": (("position",), drawn),
    "from_hidden": (("noise",), lambda n: masking.from_hidden(n < 0.4, num_visible=VISIBLE)),
    "inverse": (("noise",), lambda noise: split_of(noise).inverse()),
    "hidden": (("noise",), lambda noise: split_of(noise).hidden()),
    "gather": (("x", "noise"), lambda x, n: tokens.gather(x, split_of(n).hidden_ids)),
    "gather one-hot": (
        ("x", "noise"),
        lambda x, n: tokens.gather(x, split_of(n).hidden_ids, method="onehot"),
    ),
    "gather, gradient": (("x", "noise"), functools.partial(visible_gradient, "take")),
    "gather one-hot, gradient": (("x", "noise"), functools.partial(visible_gradient, "onehot")),
    "restore": (("x", "noise"), lambda x, n: tokens.restore(x, split_of(n))),
    "scatter": (
        ("x", "noise"),
        lambda x, n: tokens.scatter(x[:, :VISIBLE], split_of(n).visible_ids, 12),
    ),
    "scatter, gradient": (("x", "noise"), scatter_gradient),
    "patchify": (("image",), lambda image: masking.patchify(image, (2, 3))),
    "masked mean per example": (
        ("x", "noise"),
        lambda x, n: masking.reduce.masked_mean(x, (n < 0.5)[..., None], (1, 2)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_stays_on_the_device_and_gives_the_same_numbers(name, rows, given):
    names, fn = CASES[name]
    sharded = [given[n] for n in names]
    compiled = jax.jit(fn, out_shardings=rows).lower(*sharded).compile()
    assert collectives(compiled.as_text()) == {}
    local = [jax.device_put(x, jax.devices()[0]) for x in sharded]
    jax.tree.map(np.testing.assert_array_equal, compiled(*sharded), jax.jit(fn)(*local))


def test_the_counting_sees_collectives(rows, given):
    whole = NamedSharding(rows.mesh, PartitionSpec())
    text = lambda fn: jax.jit(fn, out_shardings=whole).lower(given["x"]).compile().as_text()  # noqa: E731
    assert collectives(text(lambda x: x.sum())).keys() == {"all-reduce"}
    assert collectives(text(lambda x: x * 2)).keys() == {"all-gather"}
