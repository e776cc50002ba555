"""Lean layers: equal to plain autodiff, no less exact in bfloat16, under every transformation."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from jax.sharding import AxisType, PartitionSpec

from maskjax.masking import Draws, attention_ops
from maskjax.method import build_method
from maskjax.nn import lean
from maskjax.nn.block import Block
from maskjax.nn.stack import Stack
from maskjax.nn.variant_block import quick_gelu, swiglu

B, H, Q, K, D, E = 2, 3, 5, 7, 4, 6
BLOCKED_ROW = np.where(np.arange(Q)[:, None] == 1, -np.inf, 0.5 * np.ones((Q, K)))


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng([seed, *shape]).normal(size=shape), jnp.float32)


def allow(*shape, seed=0):
    """Half of all, the first key always; of query 2 nothing."""
    found = np.random.default_rng([seed, *shape]).uniform(size=shape) < 0.5
    found[..., 0] = True
    if shape[-2] > 1:
        found[..., 2, :] = False
    return found


def value_and_gradients(fn, *args):
    """fn(*args) and the gradients of a smooth function of it to every float argument."""
    floats = [i for i, a in enumerate(args) if jnp.issubdtype(jnp.asarray(a).dtype, jnp.floating)]

    def loss(*args):
        out = fn(*args)
        return jnp.sin(3 * out.astype(jnp.float32)).sum(), out

    (_, out), gradients = jax.jit(jax.value_and_grad(loss, floats, has_aux=True))(*args)
    return out, gradients


def assert_equal(found, expected, tolerance=1e-6):
    """To `tolerance` of the largest value of all: some gradients are zero but for rounding."""
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * largest)


def assert_lean_equals_plain(fn, *args, tolerance=1e-6):
    assert "custom_vjp_call" in str(jax.make_jaxpr(fn)(*args))
    assert "custom_vjp_call" not in str(jax.make_jaxpr(lean.plain(fn))(*args))
    expected = value_and_gradients(lean.plain(fn), *args)
    assert_equal(value_and_gradients(fn, *args), expected, tolerance)


def norm(x, scale, bias):
    return lean.layer_norm(x, scale, bias, eps=1e-5, dtype=x.dtype)


@pytest.mark.parametrize("unrolled", [False, True])
def test_layer_norm(unrolled):
    with lean.unrolled(unrolled):
        x = 1 + 2 * normal(B, Q, 16)
        assert_lean_equals_plain(norm, x, normal(16), normal(16))


@pytest.mark.parametrize(
    ("shape", "kernel", "num", "before", "count", "bias"),
    [
        ((B, Q, D), (D, E), 1, None, 1, True),
        ((B, Q, D), (D, H, E), 1, None, 1, False),
        ((B, Q, H, D), (H, D, E), 2, None, 1, True),
        ((D,), (D, E), 1, lean.gelu, 1, True),
        ((B, Q, D), (D, E), 1, lean.gelu, 1, True),
        ((B, Q, H, D), (H, D, E), 2, quick_gelu, 1, False),
        ((B, Q, D), (D, E), 1, swiglu, 2, True),
    ],
)
@pytest.mark.parametrize("unrolled", [False, True])
def test_dense(shape, kernel, num, before, count, bias, unrolled):
    def dense(kernel, *rest):
        inputs, rest = rest[:count], rest[count:]
        return lean.dense(inputs, kernel, *rest, num_input_axes=num, before=before)

    inputs = [normal(*shape, seed=i) for i in range(count)]
    biases = [normal(*kernel[num:])] if bias else []
    with lean.unrolled(unrolled):
        assert_lean_equals_plain(dense, normal(*kernel), *inputs, *biases)


def test_gelu_is_the_exact_one():
    x = jnp.linspace(-6, 6, 101)
    np.testing.assert_allclose(lean.gelu(x), jax.nn.gelu(x, approximate=False), atol=1e-6)


MASKS = {
    "none": {},
    "allow": {"allow": allow(B, 1, Q, K)},
    "allow of keys": {"allow": allow(B, 1, 1, K)},
    "allow of rank 2": {"allow": allow(Q, K)},
    "bias of a table": {"bias": normal(H, Q, K)},
    "bias of keys": {"bias": normal(K)},
    "bias of queries": {"bias": normal(Q, 1)},
    "bias blocks": {"bias": jnp.asarray(BLOCKED_ROW, jnp.float32)},
    "factor": {"factor": normal(1, H, Q, K)},
    "gain": {"gain": normal(B, 1, Q, K)},
    "a number": {"factor": jnp.float32(0.3), "bias": jnp.float32(2)},
    "all": {
        "factor": normal(B, H, Q, K),
        "bias": normal(H, 1, K),
        "allow": allow(B, H, Q, K),
        "gain": normal(1, K),
    },
}


@pytest.mark.parametrize("masks", MASKS)
@pytest.mark.parametrize("unrolled", [False, True])
def test_attention_of_other_lengths_under_masks(masks, unrolled):
    names, values = tuple(MASKS[masks]), tuple(MASKS[masks].values())

    def attend(query, key, value, *masks):
        return lean.attend(query, key, value, **dict(zip(names, masks, strict=True)))

    def reference(query, key, value, *masks):
        masks = dict(zip(names, masks, strict=True))
        return attention_ops.attend(query, key, value, **masks)

    operands = normal(B, H, Q, D), normal(B, H, K, D), normal(B, H, K, E)
    with lean.unrolled(unrolled):
        found = value_and_gradients(attend, *operands, *values)
    assert_equal(found, value_and_gradients(reference, *operands, *values))


def test_a_scale_and_masks_that_are_no_arrays():
    def attend(query, key, value):
        return lean.attend(query, key, value, scale=0.7, factor=2, bias=1, gain=np.arange(K))

    operands = normal(B, H, Q, D), normal(B, H, K, D), normal(B, H, K, E)
    assert_lean_equals_plain(attend, *operands)
    expected = attention_ops.weights(1.4 * operands[0] @ operands[1].swapaxes(-1, -2))
    assert_equal(attend(*operands), expected * np.arange(K) @ operands[2])


def test_one_key_for_all_heads_is_left_to_autodiff():
    query, key = normal(B, H, Q, D), normal(B, 1, K, D)
    fn = lambda query, key: lean.attend(query, key, key)  # noqa: E731
    expected = value_and_gradients(lean.plain(fn), query, key)
    assert_equal(value_and_gradients(fn, query, key), expected)


# Transformations.


def toy(x, scale, bias, kernel, queries):
    """Every lean function once: [Q, D] -> [Q, D]."""
    y = lean.dense((norm(x, scale, bias),), kernel, bias, before=lean.gelu)
    return x + lean.attend(queries, y, y)


def toy_arguments(*batch):
    shapes = (*batch, Q, D), (D,), (D,), (D, D), (*batch, Q, D)
    return [normal(*shape, seed=i) for i, shape in enumerate(shapes)]


@pytest.mark.parametrize("unrolled", [False, True])
def test_vmap_and_scan(unrolled):
    x, scale, bias, kernel, queries = toy_arguments(B)
    mapped = jax.vmap(toy, in_axes=(0, None, None, None, 0))

    def looped(x, scale, bias, kernel, queries):
        body = lambda _, row: (None, toy(row[0], scale, bias, kernel, row[1]))  # noqa: E731
        return jax.lax.scan(body, None, (x, queries))[1]

    with lean.unrolled(unrolled):
        expected = value_and_gradients(lean.plain(toy), x, scale, bias, kernel, queries)
        for fn in (mapped, looped, jax.checkpoint(toy)):
            assert_equal(value_and_gradients(fn, x, scale, bias, kernel, queries), expected)


@pytest.mark.parametrize("unrolled", [False, True])
def test_gradients_of_gradients(unrolled):
    arguments = toy_arguments()

    def penalty(fn):
        first = jax.grad(lambda *args: jnp.sin(fn(*args)).sum(), range(5))
        squares = lambda *args: sum(jnp.square(g).sum() for g in first(*args))  # noqa: E731
        return jax.jit(jax.grad(squares, range(5)))(*arguments)

    with lean.unrolled(unrolled):
        assert_equal(penalty(toy), penalty(lean.plain(toy)), 1e-5)


def test_forward_mode_needs_plain():
    x, *rest = toy_arguments()
    push = lambda fn: jax.jvp(lambda x: fn(x, *rest), (x,), (jnp.ones_like(x),))[1]  # noqa: E731
    with pytest.raises(TypeError, match="forward-mode"):
        push(toy)
    direction = (lean.plain(toy)(x + 1e-2, *rest) - lean.plain(toy)(x - 1e-2, *rest)) / 2e-2
    np.testing.assert_allclose(push(lean.plain(toy)), direction, atol=1e-2)


@pytest.mark.parametrize("scan", [True, False])
def test_inside_shard_map(scan):
    """Gradients of replicated parameters are summed over the shards by autodiff itself."""
    stack = Stack(Block(2, 16, parent=None), 2, scan=scan)
    shapes = jax.eval_shape(lambda key: stack.init(key, 8), jax.random.key(0))
    params, x = tiny.filled(shapes), normal(4, Q, 8)
    gradient = jax.grad(lambda params, x: jnp.sin(stack(params, x)[0]).sum(), (0, 1))
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])
    specs = (PartitionSpec(), PartitionSpec("data"))
    with jax.set_mesh(mesh):
        found = jax.jit(jax.shard_map(gradient, in_specs=specs, out_specs=specs))(params, x)
    assert_equal(found, jax.jit(gradient)(params, x))


def test_unknown_parts():
    with pytest.raises(ValueError, match=r"no lean part \['mlps'\]"), lean.only({"norm", "mlps"}):
        pass


def test_the_flag_of_a_config_reaches_every_function_of_the_method():
    batch = tiny.batch(8)

    def custom(lean_on):
        method = build_method("mim.mae", {**tiny.MODEL, "lean": lean_on}, batch)
        params = tiny.params(method, batch)
        draws = Draws.keyed(jax.random.key(0), batch["position"])
        loss = lambda p: method.phases[0].fn(p, {}, batch, draws, 0, None)[0]  # noqa: E731
        encode = lambda p: method.predict["encode"](p, {}, batch, draws)  # noqa: E731
        return [str(jax.make_jaxpr(fn)(params)).count("custom_vjp_call") for fn in (loss, encode)]

    assert min(custom(True)) > 0
    assert custom(False) == [0, 0]


# What it costs.

WIDTH, TOKENS, ROWS = 64, 33, 8


def stack_gradient(dtype, parts=lean.PARTS, *, depth, scan=True, width=WIDTH, tokens=TOKENS):
    """A jitted gradient of a stack and its arguments."""
    stack = Stack(Block(2, 4 * width, dtype=dtype, parent=None), depth, scan=scan)
    shapes = jax.eval_shape(lambda key: stack.init(key, width), jax.random.key(0))

    def loss(params, x):
        with lean.only(parts):
            return jnp.sin(stack(params, x.astype(dtype))[0].astype(jnp.float32)).sum()

    return jax.jit(jax.grad(loss)), (shapes, jax.ShapeDtypeStruct((ROWS, tokens, width), dtype))


def test_bfloat16_is_no_further_from_float32_than_plain_autodiff():
    def gradients(*options):
        fn, (shapes, x) = stack_gradient(*options, depth=2)
        tree = fn(tiny.filled(shapes), normal(*x.shape))
        del tree["attn"]["key"]["bias"]  # nothing but rounding: softmax does not see it
        return jax.tree.leaves(tree)

    def distance(found):
        norms = [jnp.linalg.norm(a - b) / jnp.linalg.norm(b) for a, b in zip(found, exact)]  # noqa: B905
        return float(np.mean(norms))

    exact = gradients(jnp.float32, frozenset())
    found, plain = (distance(gradients(jnp.bfloat16, p)) for p in (lean.PARTS, frozenset()))
    assert 0 < found < 1.02 * plain


def test_a_block_keeps_activations_in_the_compute_type_and_no_attention_weights():
    block = Block(2, 4 * WIDTH, dtype=jnp.bfloat16, parent=None)
    x = jax.ShapeDtypeStruct((ROWS, TOKENS, WIDTH), jnp.bfloat16)
    params = jax.eval_shape(block.init, jax.random.key(0), x)
    backward = lambda params, x: jax.vjp(lambda p, x: block.apply(p, x)[0], params, x)[1]  # noqa: E731
    kept = jax.tree.leaves(jax.eval_shape(backward, params, x))
    tokens = [leaf for leaf in kept if leaf.shape[:1] == (ROWS,) and leaf.ndim > 2]
    assert all(leaf.dtype == jnp.bfloat16 for leaf in tokens)
    assert not any(leaf.shape[-2:] == (TOKENS, TOKENS) for leaf in tokens)
    # In arrays of tokens: the input of each norm and its result, q, k, v, mixed, the MLP's 4.
    assert sum(leaf.size for leaf in tokens) <= 12 * ROWS * TOKENS * WIDTH


def without(part):
    """Two sets of parts that differ in `part` only.

    Without lean products the MLP keeps its activation: what they save beyond that counts.
    """
    others = lean.PARTS - ({"mlp"} if part == "dense" else set())
    return others, others - {part}


def peaks():
    """Bytes of the compiled step's buffers: {part: (with it, without it)}."""

    def peak(parts, scan):
        options = {"depth": 4, "width": 128, "tokens": 128, "scan": scan}
        fn, shapes = stack_gradient(jnp.bfloat16, parts, **options)
        return fn.lower(*shapes).compile().memory_analysis().temp_size_in_bytes

    # The chain matters for unrolled stacks on CPU.
    return {
        part: [peak(parts, scan=part != "chain") for parts in without(part)] for part in lean.PARTS
    }


@pytest.fixture(scope="module")
def measured():
    """`peaks()` in a process with XLA's own flags: those of the tests change the schedule."""
    code = "import json, test_lean; print(json.dumps(test_lean.peaks()))"
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    environment = os.environ | {"XLA_FLAGS": "", "PYTHONPATH": path}
    done = subprocess.run(
        (sys.executable, "-c", code), env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("part", sorted(lean.PARTS))
def test_each_part_lowers_the_peak_memory(measured, part):
    lean_peak, plain_peak = measured[part]
    assert lean_peak < (0.8 if part == "chain" else 0.95) * plain_peak


# Unrolled stacks on CPU.


@pytest.mark.parametrize("parts", [lean.PARTS, frozenset({"chain"})])
def test_only_the_backward_pass_of_an_unrolled_stack_on_cpu_has_loops(parts):
    def loops(scan, platform):
        fn, shapes = stack_gradient(jnp.float32, parts, depth=2, scan=scan)
        text = fn.trace(*shapes).lower(lowering_platforms=(platform,)).as_text()
        return text.count("stablehlo.while")

    assert loops(True, "cpu") == loops(True, "tpu") == 2
    assert loops(False, "tpu") == loops(False, "cuda") == 0
    assert loops(False, "cpu") > 0


@pytest.mark.parametrize("parts", [lean.PARTS, frozenset({"chain"})])
def test_no_fusion_grows_with_the_depth(parts):
    """The loops outlive the compiler, and the cotangent is not summed anew in every layer."""

    def largest(depth):
        fn, shapes = stack_gradient(jnp.float32, parts, depth=depth, scan=False, width=16)
        text = fn.lower(*shapes).compile().as_text()
        assert text.count(" while(") >= depth - 1
        return max(line.count(" parameter(") for line in re.split(r"\n}\n", text)[:-1])

    assert largest(6) <= largest(3)
