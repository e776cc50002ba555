"""Fused attention: the TPU kernel, interpreted, against the formula; and when it is taken."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import AxisType, PartitionSpec

from maskjax.nn import flash, lean
from maskjax.nn.attention import FUSED_FROM, Attention, chosen

LONG, SHORT = FUSED_FROM, FUSED_FROM - 1


def operands(queries=150, keys=150, batch=2, heads=2, dim=8, seed=0):
    rng = np.random.default_rng(seed)
    shapes = (queries, keys, keys)
    return [jnp.asarray(rng.normal(size=(batch, heads, n, dim)), jnp.float32) for n in shapes]


def results(attend, given):
    """Output and gradients of a loss that treats every value differently."""

    def loss(*given):
        out = attend(*given)
        weights = np.random.default_rng(1).normal(size=out.shape)
        return (out * weights).sum(), out

    gradients, out = jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))(*given)
    return out, *gradients


@pytest.mark.parametrize("sizes", [(150, 150), (128, 128), (20, 300)])
def test_the_kernel_is_attention(sizes):
    """Also where tokens are padded to whole tiles, and with other keys than queries."""
    given = operands(*sizes)
    with pltpu.force_tpu_interpret_mode():
        found = results(flash.flash_attention, given)
    expected = results(lean.attend, given)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("axes", "examples", "heads"),
    [({"data": 4, "tensor": 2}, 1, 1), ({"data": 8, "tensor": 1}, 4, 2), ({"fsdp": 2}, 2, 2)],
)
def test_every_device_computes_its_own_examples_and_heads(axes, examples, heads, monkeypatch):
    """With the formula in place of the kernel: interpreted ones wait for each other on few cores.

    4 examples do not divide over 8 devices: all of them on each.
    """
    seen = []

    def local(query, key, value):
        seen.append((query.shape, key.shape, value.shape))
        return lean.attend(query, key, value)

    monkeypatch.setattr(flash, "_local", local)
    given = operands(queries=7, batch=4)
    devices = jax.devices()[: math.prod(axes.values())]
    types = (AxisType.Auto,) * len(axes)
    mesh = jax.make_mesh(tuple(axes.values()), tuple(axes), axis_types=types, devices=devices)
    with jax.set_mesh(mesh):
        found = jax.jit(flash.flash_attention)(*given)
    assert seen == [((examples, heads, 7, 8), *2 * ((examples, heads, 150, 8),))]
    np.testing.assert_allclose(found, lean.attend(*given), rtol=1e-5, atol=1e-6)


def test_inside_shard_map_the_kernel_gets_what_is_there(monkeypatch):
    monkeypatch.setattr(flash, "_local", lambda *given: lean.attend(*given))
    given = operands(batch=4)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    spec = PartitionSpec("data")
    run = jax.shard_map(flash.flash_attention, mesh=mesh, in_specs=(spec,) * 3, out_specs=spec)
    np.testing.assert_allclose(jax.jit(run)(*given), lean.attend(*given), rtol=1e-5, atol=1e-6)


def arrays(tokens, dtype="bfloat16", dim=64):
    shape = (2, 4, tokens, dim)
    return jax.ShapeDtypeStruct(shape, dtype), jax.ShapeDtypeStruct(shape, dtype)


@pytest.mark.parametrize("kernel", ["cudnn", "pallas"])
def test_long_sequences_take_the_kernel_and_short_ones_do_not(kernel):
    assert chosen(f"{kernel}_long", *arrays(LONG)) == kernel
    assert chosen(f"{kernel}_long", *arrays(SHORT)) == "einsum"
    assert chosen(kernel, *arrays(SHORT)) == kernel
    long, short = arrays(LONG), arrays(SHORT)
    assert chosen(f"{kernel}_long", short[0], long[1]) == kernel  # cross-attention


def test_what_a_kernel_cannot_serve_is_left_to_the_formula():
    allow = jax.ShapeDtypeStruct((2, 1, LONG, LONG), bool)
    assert chosen("pallas_long", *arrays(LONG), allow=allow) == "einsum"
    assert chosen("cudnn_long", *arrays(LONG), allow=allow) == "cudnn"
    assert chosen("cudnn_long", *arrays(LONG, "float32")) == "einsum"
    assert chosen("cudnn_long", *arrays(LONG, dim=60)) == "einsum"
    with pytest.raises(ValueError, match="'pallas' takes no mask or bias"):
        chosen("pallas", *arrays(SHORT), bias=allow)


def test_weights_are_there_whatever_the_kernel():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 8)), jnp.float32)
    params = Attention(2).init(jax.random.key(0), x)["params"]
    einsum, xla = (Attention(2, implementation=kind) for kind in ("einsum", "xla"))
    seen = [module.apply({"params": params}, x)[1] for module in (einsum, xla)]
    np.testing.assert_array_equal(seen[0]["attention"], seen[1]["attention"])
