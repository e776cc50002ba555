"""Parts of parameter trees by path."""

import jax
import pytest

from maskjax.train.state import TrainState
from maskjax.train.tree import path_name, subtree, with_subtree

TREE = {"encoder": {"blocks": {"kernel": 1}, "norm": 2}, "decoder": {"norm": 3}}


def test_path_names_cross_every_kind_of_node():
    state = TrainState(0, TREE, {"main": (None, [TREE])}, {})
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
    assert names[0] == "step"
    assert "params/encoder/blocks/kernel" in names
    assert "opt_state/main/1/0/decoder/norm" in names


def test_subtree():
    assert subtree(TREE, "") is TREE
    assert subtree(TREE, "encoder/blocks") == {"kernel": 1}
    assert subtree(TREE, "decoder/norm") == 3


def test_subtree_names_what_is_there():
    with pytest.raises(KeyError, match=r"no 'block' of 'encoder/block' .*: blocks, norm"):
        subtree(TREE, "encoder/block")
    with pytest.raises(KeyError, match="a leaf"):
        subtree(TREE, "encoder/norm/scale")


@pytest.mark.parametrize("path", ["", "encoder", "encoder/blocks", "decoder/norm"])
def test_with_subtree_replaces_one_part_and_copies(path):
    before = jax.tree.map(lambda x: x, TREE)
    assert subtree(with_subtree(TREE, path, {"new": 9}), path) == {"new": 9}
    assert with_subtree(TREE, path, subtree(TREE, path)) == TREE
    assert before == TREE
