"""The block stack: scan and remat change nothing; taps; drop-path."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from maskjax.nn.block import Block
from maskjax.nn.stack import Stack

DEPTH, DIM, HEADS = 3, 8, 2
BLOCK = Block(HEADS, mlp_hidden=16, parent=None)
X = np.random.default_rng(0).normal(size=(4, 5, DIM)).astype(np.float32)
NOISE = np.random.default_rng(1).uniform(size=(4, DEPTH, 2)).astype(np.float32)
VARIANTS = list(itertools.product([True, False], ["none", "dots", "full"]))


def stack(scan=False, remat="none", drop_path=0.0):
    return Stack(BLOCK, DEPTH, scan, remat, drop_path)


@pytest.fixture(scope="module")
def params():
    return jax.jit(lambda key: stack().init(key, DIM))(jax.random.key(0))


def run(model, params, x, taps=(), **inputs):
    """The stack, compiled at once."""
    return jax.jit(lambda p, x, i: model(p, x, taps=taps, **i))(params, x, inputs)


@jax.jit
def one_block(params, index, x, scale):
    return BLOCK.apply({"params": jax.tree.map(lambda p: p[index], params)}, x, scale)[0]


def one_by_one(params, x, scales=(1.0,) * DEPTH):
    """The blocks applied one after the other; scales [2, B] or one number per layer."""
    outputs = []
    for index, scale in enumerate(scales):
        x = one_block(params, index, x, np.broadcast_to(np.float32(scale), (2, len(x))))
        outputs.append(x)
    return outputs


def results(params, scan, remat):
    def loss(params, x):
        model = stack(scan, remat, 0.5)
        out, seen = model(params, x, taps=("attention", "block/1"), drop_noise=NOISE)
        return jnp.sin(out).sum() + seen["attention"].max(), (out, seen)

    return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, X)


def test_a_loop_keeps_the_taps_of_a_layer_for_that_layer_only(params):
    taps = ("attention/-1", "block/0", "block")
    out, seen = run(stack(scan=True), params, X, taps)
    whole, all_ = run(stack(scan=True), params, X, ("attention", "block"))
    np.testing.assert_allclose(out, whole, rtol=1e-6)
    np.testing.assert_allclose(seen["attention/-1"], all_["attention"][-1], rtol=1e-6)
    np.testing.assert_allclose(seen["block/0"], all_["block"][0], rtol=1e-6)
    np.testing.assert_allclose(seen["block"], all_["block"], rtol=1e-6)
    shapes = lambda t: str(jax.make_jaxpr(lambda p, x: stack(scan=True)(p, x, taps=t))(params, X))  # noqa: E731
    stacked = f"f32[{DEPTH},4,{HEADS},5,5]"
    assert stacked in shapes(("attention",)) and stacked not in shapes(("attention/-1",))


@pytest.fixture(scope="module")
def reference(params):
    return results(params, *VARIANTS[0])


@pytest.mark.parametrize(("scan", "remat"), VARIANTS[1:])
def test_scan_and_remat_change_neither_outputs_nor_gradients(params, reference, scan, remat):
    gradients, outputs = results(params, scan, remat)
    for found, expected in ((gradients, reference[0]), (outputs, reference[1])):
        # To 1e-6 of the largest value: some gradients (key biases) are zero but for rounding.
        largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * largest)


def test_scan_and_remat_change_no_parameter(params):
    for scan, remat in ((True, "none"), (False, "full")):
        other = jax.jit(lambda key: stack(scan, remat).init(key, DIM))(jax.random.key(0))  # noqa: B023
        jax.tree.map(np.testing.assert_array_equal, other, params)


def test_scan_is_a_loop_and_unrolled_is_none(params):
    text = lambda scan: jax.jit(stack(scan).__call__).lower(params, X).compile().as_text()  # noqa: E731
    assert " while(" in text(True)
    assert " while(" not in text(False)


@pytest.mark.parametrize("scan", [True, False])
def test_remat_keeps_less_for_the_backward_pass(params, scan):
    def kept(remat):
        model = stack(scan, remat)
        backward = jax.eval_shape(lambda p: jax.vjp(lambda p: model(p, X)[0], p)[1], params)
        return sum(leaf.size for leaf in jax.tree.leaves(backward))

    assert kept("full") < kept("dots") < kept("none")


def test_equals_the_blocks_one_after_the_other(params):
    assert {leaf.shape[0] for leaf in jax.tree.leaves(params)} == {DEPTH}
    outputs = one_by_one(params, X)
    out, seen = run(stack(), params, X, taps=("block", "block/1", "block/-1", "query", "key/0"))
    np.testing.assert_allclose(out, outputs[-1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(seen["block"], np.stack(outputs), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(seen["block/1"], seen["block"][1])
    np.testing.assert_array_equal(seen["block/-1"], out)
    assert seen["query"].shape == (DEPTH, 4, HEADS, 5, DIM // HEADS)
    assert seen["key/0"].shape == (4, HEADS, 5, DIM // HEADS)
    assert set(seen) == {"block", "block/1", "block/-1", "query", "key/0"}


def test_no_taps_cost_nothing(params):
    assert jax.eval_shape(stack(), params, X)[1] == {}


def test_layers_start_differently(params):
    kernels = np.asarray(params["attn"]["query"]["kernel"])
    assert not np.isclose(kernels[0], kernels[1]).any()


def test_allow_holds_in_every_layer(params):
    allow = np.tril(np.ones((5, 5), bool))[None, None]
    _, seen = run(stack(), params, X, taps=("attention",), allow=allow)
    assert not np.asarray(seen["attention"])[..., ~allow[0, 0]].any()
    # A causal mask: what comes later cannot matter.
    changed = X.copy()
    changed[:, 3:] += 1
    out, other = (run(stack(), params, x, allow=allow)[0] for x in (X, changed))
    np.testing.assert_array_equal(out[:, :3], other[:, :3])
    assert not np.isclose(out[:, 3:], other[:, 3:]).all()


def test_drop_path_rates_grow_from_zero_to_the_last_block(params):
    rates = np.array([0, 0.2, 0.4])
    for noise in (0.0, 0.1, 0.3, 0.39, 0.5):
        keep = np.where(noise < rates, 0, 1 / (1 - rates)).astype(np.float32)
        full = np.full((4, DEPTH, 2), noise, np.float32)
        out, _ = run(stack(drop_path=0.4), params, X, drop_noise=full)
        np.testing.assert_allclose(out, one_by_one(params, X, keep)[-1], rtol=1e-5, atol=1e-5)


def test_each_example_and_branch_has_its_own_noise(params):
    noise = np.ones((4, DEPTH, 2), np.float32)
    noise[1, 2, 0] = 0  # the attention branch of example 1 in the last layer
    full = one_by_one(params, X)
    scales = [np.ones((2, 4), np.float32) / (1 - rate) for rate in (0, 0.2, 0.4)]
    scales[2][0, 1] = 0
    out, _ = run(stack(drop_path=0.4), params, X, drop_noise=noise)
    np.testing.assert_allclose(out, one_by_one(params, X, scales)[-1], rtol=1e-5, atol=1e-5)
    assert not np.isclose(out, full[-1]).all()


def test_rate_zero_or_no_noise_is_the_identity(params):
    plain, _ = run(stack(), params, X)
    for model, noise in ((stack(), NOISE), (stack(drop_path=0.9), None)):
        out, _ = run(model, params, X, drop_noise=noise)
        np.testing.assert_allclose(out, plain, rtol=1e-6, atol=1e-6)


def test_drop_path_keeps_the_expectation():
    """With the MLP silenced each block adds one branch; over many examples its mean stays."""
    model = Stack(BLOCK, 2, False, drop_path=0.5)
    params = tiny.filled(jax.eval_shape(lambda key: model.init(key, DIM), jax.random.key(0)))
    params["mlp"]["fc2"]["kernel"] *= 0
    x = np.broadcast_to(X[:1, :2], (4000, 2, DIM))
    noise = jax.random.uniform(jax.random.key(1), (4000, 2, 2))
    out, _ = run(model, params, x, drop_noise=noise)
    plain, _ = run(model, params, x[:1])
    np.testing.assert_allclose(out.mean(0), plain[0], atol=0.05 * np.abs(plain[0] - x[0]).max())


@pytest.mark.parametrize("scan", [True, False])
def test_a_bias_for_all_layers_or_one_for_each(params, scan):
    pattern = np.random.default_rng(2).normal(size=(4, 1, 5, 5)).astype(np.float32)
    strength = jnp.float32([0, 2, 0])
    same = run(stack(scan), params, X, taps=("attention",), bias=pattern)[1]["attention"]
    by_layer = lambda p, x, b: stack(scan)(  # noqa: E731
        p, x, taps=("attention",), bias=lambda layer: strength[layer] * b
    )
    each = jax.jit(by_layer)(params, X, pattern)[1]["attention"]
    plain = run(stack(scan), params, X, taps=("attention",))[1]["attention"]
    assert not np.isclose(same[0], plain[0]).all()
    np.testing.assert_allclose(each[0], plain[0], rtol=1e-5, atol=1e-6)
    # Layer 0 is untouched, so layer 1 sees what it saw before, and the bias.
    expected = jax.nn.softmax(jnp.log(plain[1]) + 2 * pattern, -1)
    np.testing.assert_allclose(each[1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("depth", [1, 3, 4])
@pytest.mark.parametrize("scan", [True, False])
def test_blocks_that_take_turns(scan, depth):
    other = Block(HEADS, mlp_hidden=16, eps=1.0, parent=None)
    model = Stack((BLOCK, other), depth, scan, "full", (0.2, 0.4), allow_in=(0, 2))
    params = tiny.filled(jax.eval_shape(lambda key: model.init(key, DIM), jax.random.key(0)))
    noise = np.full((4, depth, 2), 0.9, np.float32)
    allow = np.tril(np.ones((5, 5), bool))[None, None]
    for masked in (None, allow):
        out, seen = run(model, params, X, taps=("block",), drop_noise=noise, allow=masked)
        x = X
        for i, rate in enumerate(np.linspace(0.2, 0.4, depth)):
            scale = np.full((2, 4), 1 / (1 - rate), np.float32)
            layer = jax.tree.map(lambda p: p[i], params)  # noqa: B023
            given = masked if i in (0, 2) else None
            x, _ = (BLOCK, other)[i % 2].apply({"params": layer}, x, scale, given)
            np.testing.assert_allclose(seen["block"][i], x, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(out, seen["block"][-1])


@pytest.mark.parametrize("tap", ["input", "blocks", "block/3", "block/-4"])
def test_unknown_taps(params, tap):
    with pytest.raises(ValueError, match=r"unknown tap|the stack has layers 0\.\.2"):
        run(stack(), params, X, taps=(tap,))


def test_unknown_remat(params):
    with pytest.raises(ValueError, match="'none', 'dots' or 'full', got 'some'"):
        stack(remat="some")(params, X)
