"""Draws: a function of (seed, name, position, draw number) and of nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from maskjax.masking import Draws

POSITIONS = np.array([[0, 5], [0, 6], [0, 7], [1, 5], [0, 2**32 - 1], [7, 0]], np.uint32)
MANY = np.stack([np.zeros(500), np.arange(500)], 1).astype(np.uint32)
KINDS = {
    "uniform": lambda draws, **k: draws.uniform("name", (3,), **k),
    "normal": lambda draws, **k: draws.normal("name", (3,), **k),
    "gumbel": lambda draws, **k: draws.gumbel("name", (3,), **k),
    "permutation": lambda draws, **k: draws.permutation("name", 9, **k),
}


def draws(positions=POSITIONS, seed=0):
    return Draws.keyed(jax.random.key(seed), jnp.asarray(positions))


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_example_gets_does_not_depend_on_its_batch(kind):
    sample = KINDS[kind]
    jitted = jax.jit(lambda positions: sample(draws(positions)))
    whole = np.asarray(jitted(POSITIONS))
    order = np.array([3, 0, 5, 1])
    np.testing.assert_array_equal(jitted(POSITIONS[order]), whole[order])
    for i in range(len(POSITIONS)):
        np.testing.assert_array_equal(jitted(POSITIONS[i : i + 1])[0], whole[i])
    np.testing.assert_allclose(sample(draws()), whole, rtol=1e-6)  # not under jit


@pytest.mark.parametrize("kind", KINDS)
def test_position_high_word_seed_name_and_draw_number_all_matter(kind):
    sample = KINDS[kind]
    whole = np.asarray(sample(draws()))
    rows = {tuple(row) for row in whole.tolist()}
    assert len(rows) == len(POSITIONS)  # rows 0 and 3 differ in the high word only
    assert (np.asarray(sample(draws(), draw=1)) != whole).any(1).all()
    assert (np.asarray(sample(draws(), draw=1)) != np.asarray(sample(draws(), draw=2))).any()
    assert (np.asarray(sample(draws(seed=1))) != whole).any(1).all()


def test_beta_does_not_depend_on_the_batch_either():
    sample = jax.jit(lambda positions: draws(positions).beta("name", 2.0, 6.0, (3,)))
    whole = np.asarray(sample(MANY))
    order = np.random.default_rng(0).permutation(len(MANY))
    np.testing.assert_array_equal(sample(MANY[order]), whole[order])
    assert len({tuple(row) for row in whole.tolist()}) == len(MANY)
    assert whole.min() >= 0
    assert whole.max() <= 1
    assert abs(whole.mean() - 2 / (2 + 6)) < 0.02


def test_another_name_is_another_stream():
    one, other = draws().uniform("mask", (64,)), draws().uniform("crop", (64,))
    assert not np.isclose(one, other).all(1).any()
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.2


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_the_same_on_any_number_of_devices(devices):
    mesh = jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )
    positions = np.stack([np.zeros(16), np.arange(16)], 1).astype(np.uint32)
    expected = np.asarray(draws(positions).uniform("mask", (5,)))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    sample = jax.jit(lambda p: draws(p).uniform("mask", (5,)), in_shardings=rows)
    np.testing.assert_array_equal(sample(jax.device_put(positions, rows)), expected)


def test_shapes_types_and_ranges():
    many = draws(MANY)
    uniform, normal = many.uniform("u", (4, 5)), many.normal("n", (20,))
    assert uniform.shape == (500, 4, 5)
    assert uniform.dtype == jnp.float32
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.02
    assert abs(normal.mean()) < 0.05
    assert abs(normal.std() - 1) < 0.05
    assert abs(many.gumbel("g", (20,)).mean() - np.euler_gamma) < 0.05
    permutation = many.permutation("p", 6)
    assert permutation.dtype == jnp.int32
    np.testing.assert_array_equal(jnp.sort(permutation), jnp.tile(jnp.arange(6), (500, 1)))
    assert many.uniform("scalar").shape == (500,)


def test_replay_returns_what_was_recorded():
    recorded = {"mask": np.arange(6.0).reshape(2, 3), "mask/1": np.ones((2, 3))}
    replay = Draws.replay(recorded)
    np.testing.assert_array_equal(replay.uniform("mask", (3,)), recorded["mask"])
    np.testing.assert_array_equal(replay.uniform("mask", (3,), draw=1), recorded["mask/1"])
    np.testing.assert_array_equal(replay.normal("mask", (3,)), recorded["mask"])


def test_replay_refuses_other_names_and_shapes():
    replay = Draws.replay({"mask": np.zeros((2, 3)), "crop": np.zeros((2,))})
    with pytest.raises(KeyError, match=r"'flip' was not recorded; recorded: crop, mask"):
        replay.uniform("flip", (3,))
    with pytest.raises(KeyError, match=r"'mask/1' was not recorded"):
        replay.uniform("mask", (3,), draw=1)
    with pytest.raises(KeyError, match="recorded: nothing"):
        Draws.replay({}).uniform("mask", (3,))
    with pytest.raises(AssertionError):
        replay.uniform("mask", (4,))
    with pytest.raises(AssertionError):
        replay.uniform("mask")


def test_positions_must_have_two_words():
    with pytest.raises(AssertionError):
        draws(np.arange(4, dtype=np.uint32)[:, None]).uniform("mask", (3,))


def test_passes_through_jit_as_an_argument():
    sample = jax.jit(lambda draws: draws.uniform("mask", (3,)))
    np.testing.assert_array_equal(sample(draws()), draws().uniform("mask", (3,)))
    recorded = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(sample(Draws.replay({"mask": recorded})), recorded)
