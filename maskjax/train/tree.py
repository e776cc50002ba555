"""Parts of nested dicts of parameters by path ("encoder/blocks/attn")."""

from typing import Any

from jax.tree_util import KeyPath, keystr

from maskjax.method import Tree


def path_name(path: KeyPath) -> str:
    """A key path as "encoder/blocks/attn/query/kernel"; indices and attributes alike."""
    return keystr(path, simple=True, separator="/")


def subtree(tree: Tree, path: str) -> Tree:
    """What stands at `path`; "" is the whole tree.

    Raises:
        KeyError: if there is nothing at `path` (names what is there).
    """
    for key in filter(None, path.split("/")):
        if not isinstance(tree, dict) or key not in tree:
            there = ", ".join(tree) if isinstance(tree, dict) else "a leaf"
            raise KeyError(f"no {key!r} of {path!r} among the parameters: {there}")
        tree = tree[key]
    return tree


def with_subtree(tree: Tree, path: str, value: Any) -> Tree:
    """A copy of the nested dict in which `value` stands at `path`; "" replaces all of it."""
    head, _, rest = path.partition("/")
    if not head:
        return value
    return {**tree, head: with_subtree(tree[head], rest, value)}
