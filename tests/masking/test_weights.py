"""Masks over parameter trees: which weights and which units are alive."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hlo import collectives, result_shapes
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from maskjax.masking import units, weights

SETTINGS = settings(max_examples=20, deadline=None, derandomize=True)
seeds = st.integers(0, 2**31)


def params(seed=0):
    rng = np.random.default_rng(seed)
    arrays = {
        "a": {"kernel": rng.normal(size=(6, 4)), "bias": rng.normal(size=4)},
        "b": {"kernel": rng.normal(size=(4, 3, 2)) * 10, "scale": np.ones(3)},
    }
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), arrays)


@SETTINGS
@given(seeds, st.sampled_from([0, 1, 17, 48]), st.sampled_from([1, 3, 1000]))
def test_highest_is_the_stable_ranking_of_all_entries(seed, num_alive, levels):
    rng = np.random.default_rng(seed)
    scores = {
        "x": rng.integers(-levels, levels, (6, 4)) / 7,
        "y": rng.integers(-levels, levels, 24) / 7,
    }
    scores = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), scores)
    alive = _highest(scores, num_alive)
    flat = np.concatenate([np.ravel(scores["x"]), np.ravel(scores["y"])])
    expected = np.zeros(48, bool)
    expected[np.argsort(-flat, kind="stable")[:num_alive]] = True
    found = np.concatenate([np.ravel(alive["x"]), np.ravel(alive["y"])])
    np.testing.assert_array_equal(found, expected)


@functools.partial(jax.jit, static_argnums=1)
def _highest(scores, num_alive):
    return weights.highest(scores, num_alive=num_alive)


def test_highest_orders_all_floats():
    scores = jnp.array([0.0, -0.0, 1e-42, -1e-42, jnp.inf, -jnp.inf, 3.4e38, -3.4e38, 1.0])
    order = [4, 6, 8]
    for num in range(1, 4):
        alive = np.flatnonzero(weights.highest(scores, num_alive=num))
        assert set(alive) == set(order[:num])
    assert np.flatnonzero(~weights.highest(scores, num_alive=8)).tolist() == [5]
    # Zeros of both signs are equal, so the earlier one stays.
    assert np.flatnonzero(weights.highest(jnp.array([-0.0, 0.0]), num_alive=1)).tolist() == [0]
    for num in (-1, 10):
        with pytest.raises(ValueError, match="of 9 entries"):
            weights.highest(scores, num_alive=num)


@pytest.mark.parametrize("scope", ["tree", "leaf"])
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 1.0])
def test_magnitude_keeps_the_exact_share(scope, sparsity):
    tree = params()
    alive = weights.magnitude(tree, sparsity=sparsity, scope=scope)
    assert alive["a"]["bias"].shape == alive["b"]["scale"].shape == ()
    assert alive["a"]["bias"] and alive["b"]["scale"]
    groups = [[tree[k]["kernel"] for k in "ab"]]
    masks = [[alive[k]["kernel"] for k in "ab"]]
    if scope == "leaf":
        groups, masks = ([[x] for x in group[0]] for group in (groups, masks))
    for arrays, kept in zip(groups, masks, strict=True):
        flat = np.abs(np.concatenate([np.ravel(a) for a in arrays]))
        mask = np.concatenate([np.ravel(a) for a in kept])
        assert mask.sum() == round((1 - sparsity) * flat.size)
        assert flat[mask].min(initial=np.inf) >= flat[~mask].max(initial=0)


def test_magnitude_selects_by_path_or_function():
    tree = params()
    alive = weights.magnitude(tree, sparsity=0.5, select=lambda path: path == "a/bias")
    assert alive["a"]["bias"].sum() == 2 and alive["a"]["kernel"].shape == ()
    for options, message in (
        ({"sparsity": 1.5}, "share in"),
        ({"sparsity": 0.5, "select": "nothing$"}, "no parameter is selected by 'nothing"),
        ({"sparsity": 0.5, "scope": "row"}, "'row'"),
    ):
        with pytest.raises(ValueError, match=message):
            weights.magnitude(tree, **options)


@pytest.mark.parametrize("spec", [("fsdp",), (None, "fsdp")])
def test_of_sharded_weights_only_counts_travel(spec):
    values = np.random.default_rng(0).integers(-4, 5, (64, 16)).astype(np.float32)
    mesh = jax.make_mesh((8,), ("fsdp",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec(*spec))
    given = jax.device_put({"kernel": values}, rows)
    fn = lambda tree: weights.magnitude(tree, sparsity=0.7)  # noqa: E731
    program = jax.jit(fn, out_shardings=rows).lower(given).compile()
    assert collectives(program.as_text()).keys() == {"all-reduce"}
    assert set(result_shapes(program.as_text(), "all-reduce")) == {()}
    whole = jax.device_put({"kernel": values}, jax.devices()[0])
    np.testing.assert_array_equal(program(given)["kernel"], jax.jit(fn)(whole)["kernel"])


@SETTINGS
@given(seeds, st.sampled_from([(2, 4, 0), (1, 4, 1), (0, 2, -1), (3, 3, 1), (2, 8, 0)]))
def test_n_of_m_keeps_the_largest_of_each_group(seed, case):
    n, m, axis = case
    weight = np.random.default_rng(seed).integers(-3, 4, (8, 12, 4)).astype(np.float32)
    alive = np.asarray(weights.n_of_m(jnp.asarray(weight), n, m, axis=axis))
    groups = np.moveaxis(weight, axis, -1).reshape(-1, m)
    kept = np.moveaxis(alive, axis, -1).reshape(-1, m)
    expected = np.zeros_like(kept)
    order = np.argsort(-np.abs(groups), 1, kind="stable")[:, :n]
    np.put_along_axis(expected, order, True, 1)
    np.testing.assert_array_equal(kept, expected)


@pytest.mark.parametrize(("n", "m"), [(2, 5), (5, 4), (-1, 4), (0, 0)])
def test_n_of_m_errors(n, m):
    with pytest.raises(ValueError, match=f"{n}:{m} sparsity along an axis of 8"):
        weights.n_of_m(jnp.ones((8, 3)), n, m)


def test_the_gate_is_hard_and_its_gradient_is_the_weights():
    tree = params()
    scores = weights.selected(tree, "kernel$", value=1e-2)
    assert scores["a"]["bias"] is None
    same = weights.gate(tree, scores, threshold=5e-3)
    jax.tree.map(np.testing.assert_array_equal, same, tree)
    rng = np.random.default_rng(0)
    scores = jax.tree.map(lambda s: jnp.asarray(rng.uniform(0, 1e-2, s.shape), jnp.float32), scores)
    scores["a"]["kernel"] = scores["a"]["kernel"].at[0, 0].set(5e-3)

    def loss(scores):
        gated = weights.gate(tree, scores, threshold=5e-3)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(gated))

    alive = weights.above(scores, 5e-3)
    assert not alive["a"]["kernel"][0, 0] and alive["a"]["bias"]
    gated = weights.gate(tree, scores, threshold=5e-3)
    jax.tree.map(np.testing.assert_array_equal, gated, weights.fold(tree, alive))
    gradient = jax.grad(loss)(scores)
    for k in "ab":
        weight = tree[k]["kernel"]
        expected = weight * np.cos(np.where(alive[k]["kernel"], weight, 0))
        np.testing.assert_allclose(gradient[k]["kernel"], expected, rtol=1e-5, atol=1e-6)
    assert gradient["a"]["bias"] is None


def test_folding_removes_what_is_not_a_number():
    tree = {"kernel": jnp.array([1.0, jnp.nan, -2.0])}
    folded = weights.fold(tree, {"kernel": jnp.array([True, False, True])})
    np.testing.assert_array_equal(folded["kernel"], [1, 0, -2])
    half = {"kernel": tree["kernel"].astype(jnp.bfloat16)}
    assert weights.fold(half, {"kernel": np.True_})["kernel"].dtype == jnp.bfloat16


def test_the_dead_share_counts_what_broadcasts():
    tree = {"a": jnp.ones((4, 3)), "b": jnp.ones(8)}
    alive = {"a": jnp.array([True, False, True]), "b": np.True_}
    assert weights.share_dead(tree, alive) == 4 / 20


@pytest.mark.parametrize("shape", [(1,), (8,), (3, 5), (2, 3, 4)])
def test_bytes_there_and_back(shape):
    alive = np.random.default_rng(0).uniform(size=shape) < 0.5
    packed = np.asarray(weights.to_bytes(jnp.asarray(alive)))
    np.testing.assert_array_equal(packed, np.packbits(alive))
    np.testing.assert_array_equal(weights.from_bytes(packed, shape), alive)
    assert weights.from_bytes(packed, shape).dtype == bool


# Units

L, D, H, HEAD, F = 2, 6, 3, 2, 5


def block(seed=0):
    rng = np.random.default_rng(seed)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    dense = lambda i, o: {"kernel": normal(L, *i, *o), "bias": normal(L, *o)}  # noqa: E731
    attn = {name: dense((D,), (H, HEAD)) for name in ("query", "key", "value")}
    attn["out"] = dense((H, HEAD), (D,))
    return {"attn": attn, "mlp": {"fc1": dense((D,), (F,)), "fc2": dense((F,), (D,))}}


def run(params, x, heads=None, neurons=None):
    """A stack of blocks without norms; units may be silenced where they act."""
    heads = jnp.ones((L, H)) if heads is None else heads
    neurons = jnp.ones((L, F)) if neurons is None else neurons
    for i in range(L):
        p = jax.tree.map(lambda leaf: leaf[i], params)  # noqa: B023
        q, k, v = (
            jnp.einsum("nd,dhe->hne", x, p["attn"][name]["kernel"])
            + p["attn"][name]["bias"][:, None]
            for name in ("query", "key", "value")
        )
        probability = jax.nn.softmax(q @ k.swapaxes(1, 2), -1) * heads[i][:, None, None]
        x = x + jnp.einsum("hne,hed->nd", probability @ v, p["attn"]["out"]["kernel"])
        x = x + p["attn"]["out"]["bias"]
        y = x @ p["mlp"]["fc1"]["kernel"] + p["mlp"]["fc1"]["bias"]
        x = x + jax.nn.gelu(y * neurons[i]) @ p["mlp"]["fc2"]["kernel"] + p["mlp"]["fc2"]["bias"]
    return x


def test_folded_units_are_the_silenced_ones():
    rng, tree = np.random.default_rng(1), block()
    x = jnp.asarray(rng.normal(size=(4, D)), jnp.float32)
    masks = {"heads": rng.uniform(size=(L, H)) < 0.5, "neurons": rng.uniform(size=(L, F)) < 0.5}
    alive = units.alive_units(tree, masks)
    folded = weights.fold(tree, alive)
    np.testing.assert_allclose(run(folded, x), run(tree, x, **masks), atol=1e-5)
    per_unit = {"heads": 4 * D * HEAD + 3 * HEAD, "neurons": 2 * D + 1}
    dead = sum((~masks[kind]).sum() * size for kind, size in per_unit.items())
    total = sum(leaf.size for leaf in jax.tree.leaves(tree))
    np.testing.assert_allclose(weights.share_dead(tree, alive), dead / total, rtol=1e-6)
    everything = units.alive_units(tree, {k: np.ones_like(m) for k, m in masks.items()})
    jax.tree.map(np.testing.assert_array_equal, weights.fold(tree, everything), tree)


def test_units_of_one_block_and_of_one_kind():
    one = jax.tree.map(lambda leaf: leaf[0], block())
    alive = units.alive_units(one, {"heads": jnp.array([True, False, True])})
    folded = weights.fold(one, alive)
    assert not folded["attn"]["out"]["kernel"][1].any()
    assert not folded["attn"]["key"]["kernel"][:, 1].any()
    np.testing.assert_array_equal(folded["attn"]["out"]["bias"], one["attn"]["out"]["bias"])
    np.testing.assert_array_equal(folded["mlp"]["fc1"]["kernel"], one["mlp"]["fc1"]["kernel"])


def test_norms_of_units():
    tree = block()
    norms = units.unit_norms(tree)
    assert {kind: norm.shape for kind, norm in norms.items()} == {
        "heads": (L, H),
        "neurons": (L, F),
    }
    for kind, norm in norms.items():
        for i, j in np.ndindex(norm.shape):
            mask = np.zeros(norm.shape, bool)
            mask[i, j] = True
            alive = units.alive_units(tree, {kind: mask})
            only = jax.tree.map(lambda a, p: jnp.where(a, p, 0) if a.ndim else 0 * p, alive, tree)
            total = sum(float(jnp.square(leaf).sum()) for leaf in jax.tree.leaves(only))
            np.testing.assert_allclose(norm[i, j], np.sqrt(total), rtol=1e-5)


def test_unit_errors():
    tree = block()
    with pytest.raises(ValueError, match=r"\(2, 4\) over heads does not fit attn/key/bias"):
        units.alive_units(tree, {"heads": np.ones((L, 4), bool)})
    with pytest.raises(ValueError, match="kind layers"):
        units.alive_units(tree, {"layers": np.ones(L, bool)})
