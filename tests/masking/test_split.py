"""TokenSplit and TokenSet."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskjax.masking import TokenSet, TokenSplit


def test_two_parts():
    split = TokenSplit(jnp.array([3, 0, 4, 1, 2]), (2,))
    np.testing.assert_array_equal(split.visible_ids, [3, 0])
    np.testing.assert_array_equal(split.hidden_ids, [4, 1, 2])
    np.testing.assert_array_equal(split.part(0), split.visible_ids)
    np.testing.assert_array_equal(split.part(1), split.hidden_ids)
    np.testing.assert_array_equal(split.inverse(), [1, 3, 4, 0, 2])
    np.testing.assert_array_equal(split.hidden(), [False, True, True, False, True])
    assert (split.num_tokens, split.num_visible, split.num_hidden) == (5, 2, 3)


def test_three_parts():
    split = TokenSplit(jnp.array([3, 0, 4, 1, 2]), (2, 4))
    parts = [split.part(i).tolist() for i in range(3)]
    assert parts == [[3, 0], [4, 1], [2]]
    np.testing.assert_array_equal(split.hidden_ids, [4, 1, 2])
    np.testing.assert_array_equal(split.hidden(), [False, True, True, False, True])


@pytest.mark.parametrize("index", [-1, 2, 3])
def test_a_part_that_does_not_exist(index):
    with pytest.raises(ValueError, match=rf"part {index} does not exist.* make 2"):
        TokenSplit(jnp.arange(5), (2,)).part(index)


@pytest.mark.parametrize("cuts", [(), (6,), (-1,), (3, 2), (2, 6), (0, 1, 0)])
def test_cuts_must_make_sense(cuts):
    with pytest.raises(ValueError, match=r"must not decrease and must lie within 5 tokens"):
        TokenSplit(jnp.arange(5), cuts)


@pytest.mark.parametrize("cuts", [(0,), (5,), (0, 5), (2, 2), (5, 5)])
def test_parts_may_be_empty(cuts):
    split = TokenSplit(jnp.arange(5), cuts)
    sizes = [split.part(i).shape[0] for i in range(len(cuts) + 1)]
    assert sum(sizes) == 5
    assert split.hidden().sum() == 5 - cuts[0]


def test_a_batch_behaves_like_its_examples():
    rng = np.random.default_rng(0)
    ids = jnp.asarray(np.stack([rng.permutation(6) for _ in range(4)]))
    batch = TokenSplit(ids, (2, 3))
    for i in range(4):
        one = TokenSplit(ids[i], (2, 3))
        for name in ("inverse", "hidden"):
            np.testing.assert_array_equal(getattr(batch, name)()[i], getattr(one, name)())
        np.testing.assert_array_equal(batch.part(1)[i], one.part(1))
    vmapped = jax.vmap(lambda split: split.hidden())(batch)
    np.testing.assert_array_equal(vmapped, batch.hidden())


def test_a_pytree_whose_cuts_are_static():
    split = TokenSplit(jnp.arange(5), (2,))
    assert len(jax.tree.leaves(split)) == 1
    out = jax.jit(lambda split: split)(split)
    assert out.cuts == (2,)
    # Transformations put other things than arrays into the tree.
    assert jax.tree.map(lambda x: None, split).cuts == (2,)
    assert jax.tree.map(lambda x: x.shape, split).ids == (5,)
    _, carried = jax.lax.scan(lambda c, s: (c, s.part(1)), 0, TokenSplit(ids=_rows(3), cuts=(2,)))
    assert carried.shape == (3, 3)


def _rows(num):
    return jnp.tile(jnp.arange(5), (num, 1))


def test_token_set_counts_and_members():
    ids = jnp.array([[4, 1, 0], [2, 2, 5]])
    valid = jnp.array([[True, True, False], [True, True, True]])
    tokens = TokenSet(ids, valid)
    np.testing.assert_array_equal(tokens.count(), [2, 3])
    expected = np.zeros((2, 6), bool)
    expected[0, [4, 1]] = True
    expected[1, [2, 5]] = True
    np.testing.assert_array_equal(tokens.members(6), expected)
    np.testing.assert_array_equal(jax.jit(jax.vmap(lambda t: t.members(6)))(tokens), expected)


def test_an_empty_token_set():
    tokens = TokenSet(jnp.zeros((3,), jnp.int32), jnp.zeros((3,), bool))
    assert tokens.count() == 0
    assert not tokens.members(4).any()
