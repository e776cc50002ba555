"""Attention of long sequences, compiled for a TPU: the fused kernel, on a mesh, where it is due."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from maskjax.nn.attention import FUSED_FROM, Attention
from maskjax.options import for_platform
from maskjax.plan import target as targets
from maskjax.plan.collectives import collectives
from maskjax.plan.hlo import Program
from maskjax.train.sharding import make_mesh

NAME = "v5e:2x2"
KERNEL = 'custom_call_target="tpu_custom_call"'


def gradient(tokens, **entries):
    """The compiled gradient of one layer: 16 examples over 2 chips, 4 heads over 2."""
    if package := targets.missing(NAME):
        pytest.skip(f"cannot compile for {NAME}: pip install '{package}' (Linux only)")
    mesh = make_mesh(
        {"replica": 1, "data": 2, "fsdp": 1, "tensor": 2}, targets.target(NAME).devices
    )
    kind = for_platform({"attention": "auto", **entries}, "tpu")["attention"]
    module = Attention(4, dtype=jnp.bfloat16, implementation=kind)
    x = jax.ShapeDtypeStruct((16, tokens, 128), jnp.bfloat16)
    params = jax.eval_shape(module.init, jax.random.key(0), x)

    def place(leaf, spec):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))

    def heads(path, leaf):
        spec = ("tensor", None, None) if "out" in str(path) else (None, "tensor", None)
        kernel = PartitionSpec(*spec) if leaf.ndim == 3 else PartitionSpec()
        return place(leaf, kernel)

    loss = lambda p, x: module.apply(p, x)[0].astype(jnp.float32).sum()  # noqa: E731
    with jax.set_mesh(mesh):
        params = jax.tree_util.tree_map_with_path(heads, params)
        given = params, place(x, PartitionSpec("data"))
        return jax.jit(jax.grad(loss)).lower(*given).compile()


def temporaries(compiled):
    return compiled.memory_analysis().temp_size_in_bytes


def test_long_sequences_take_the_kernel_and_less_memory():
    """One kernel forward and two backward; nothing moves but sums of gradients and heads."""
    fused, plain = gradient(FUSED_FROM), gradient(FUSED_FROM, attention="einsum")
    assert (fused.as_text().count(KERNEL), plain.as_text().count(KERNEL)) == (3, 0)
    # The scores of one chip are 8 x 2 x 1000 x 1000 float32.
    assert temporaries(fused) < temporaries(plain) - 2 * FUSED_FROM**2 * 16
    assert {one.kind for one in collectives(Program(fused.as_text()))} == {"all-reduce"}


def test_short_sequences_do_not():
    assert gradient(FUSED_FROM - 1).as_text().count(KERNEL) == 0
