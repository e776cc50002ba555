"""Which parameter is treated how, by its path: frozen, not decayed, a smaller rate, a depth.

Paths look like `encoder/blocks/attn/query/kernel`. Lists of regexes are ordered, are searched
anywhere in the path, and the first match wins. Rules never look at the number of axes: blocks are
stacked, so a norm scale is [L, D] and a query bias [L, heads, head_dim] here although both are 1-D
tensors, exempt from weight decay, in the codebases we reproduce; and cls_token is [D] here but (1,
1, D) there, so it *is* decayed in MAE's pretraining.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from maskjax.errors import UserError
from maskjax.train.tree import path_name

PyTree = Any
Layers = Callable[[str], int | tuple[int, ...] | None]

NO_DECAY = r"(bias|scale)$"  # biases and norm scales: "skip 1-D tensors" of unstacked code
STACKED = r"(^|/)\w*blocks/"  # leaves with a leading depth axis


def map_with_name(fn: Callable[..., Any], tree: PyTree, *rest: PyTree) -> PyTree:
    """`jax.tree.map` whose `fn(name, leaf, *rest_leaves)` also gets the leaf's path as text."""
    return jax.tree_util.tree_map_with_path(
        lambda path, *leaves: fn(path_name(path), *leaves), tree, *rest
    )


def leaf_names(tree: PyTree) -> list[str]:
    """The path of every leaf, in tree order."""
    return [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


@dataclass(frozen=True)
class Group:
    """One entry of an ordered list: leaves whose path matches `pattern` get `action`.

    Attributes:
        pattern: regex, searched in the path.
        action: "frozen" (no update, no optimizer state), "no_decay", or "lr*FACTOR" such as
            "lr*0.1".
        origin: where the entry was written, for error messages: "config.optim.groups[0]".

    Raises:
        UserError: if the regex does not compile or the action is not one of the three.
    """

    pattern: str
    action: str
    origin: str

    def __post_init__(self):
        compile_regex(self.pattern, self.origin)
        if self.action not in ("frozen", "no_decay"):
            self._parse_factor()

    @property
    def factor(self) -> float:
        """What this group multiplies the learning rate with."""
        return self._parse_factor() if self.action.startswith("lr*") else 1.0

    def _parse_factor(self) -> float:
        try:
            factor = float(self.action.removeprefix("lr*"))
        except ValueError:
            factor = math.nan
        if not self.action.startswith("lr*") or not 0 < factor < math.inf:
            raise UserError(
                f"{self.origin}: unknown action {self.action!r} for {self.pattern!r}; "
                'use "frozen", "no_decay" or "lr*FACTOR" with a factor above 0, such as "lr*0.1"'
            )
        return factor


@dataclass(frozen=True)
class ParamRules:
    """Everything that depends on a parameter's path, as functions from a tree to a like tree.

    Attributes:
        groups: ordered; the first whose pattern matches is the leaf's group.
        no_decay: regex of leaves without weight decay, beside those in a "no_decay" group; "" for
            none.
        layer_decay: layer-wise learning-rate decay in (0, 1]; 0 = off.
        layers: path -> depth id of the leaf; a tuple gives one id to each slice of a stacked leaf;
            None = multiplier 1. What comes after the last block has the highest id, which is also
            the "number of layers" of the formula.
        scope: path of the trees within all parameters (`Phase.wrt`); patterns and `layers` see it.
    """

    groups: tuple[Group, ...] = ()
    no_decay: str = NO_DECAY
    layer_decay: float = 0.0
    layers: Layers | None = None
    scope: str = ""

    def group(self, name: str) -> Group | None:
        """The first group that matches the full path `name`."""
        return next((g for g in self.groups if re.search(g.pattern, name)), None)

    def is_frozen(self, name: str) -> bool:
        """Whether the leaf at the full path `name` is never updated."""
        group = self.group(name)
        return group is not None and group.action == "frozen"

    def is_decayed(self, name: str) -> bool:
        """Whether weight decay applies to the leaf at the full path `name`."""
        group = self.group(name)
        exempt = group is not None and group.action in ("frozen", "no_decay")
        return not exempt and not (self.no_decay and re.search(self.no_decay, name))

    def decay_mask(self, tree: PyTree) -> PyTree:
        """Tree of bool: True where weight decay applies."""
        return self._map(lambda name, _: self.is_decayed(name), tree)

    def labels(self, tree: PyTree) -> PyTree:
        """Tree of "frozen" | "trained", for `optax.partition`."""
        return self._map(lambda name, _: "frozen" if self.is_frozen(name) else "trained", tree)

    def multipliers(self, tree: PyTree) -> PyTree:
        """Tree of learning-rate multipliers, float32, each [] or, for stacked leaves, [L, 1, ...].

        Group factor times `layer_decay ** (num_layers - id)` (Clark et al. 2020, ELECTRA; Bao et
        al. 2021, BEiT). Call it with the whole tree: num_layers is the highest id in it.

        Raises:
            UserError: if `layers` gives a tuple that does not fit the leading axis of its leaf.
        """
        ids = self._depth_ids(tree)
        num_layers = max((np.max(i) for i in ids.values() if i is not None), default=0)

        def multiplier(name: str, leaf: Any) -> np.ndarray:
            group = self.group(name)
            factor = group.factor if group else 1.0
            if ids[name] is not None:
                depth = _broadcastable(ids[name], leaf, name)
                factor = factor * self.layer_decay ** (num_layers - depth)
            return np.asarray(factor, np.float32)

        return self._map(multiplier, tree)

    def check(self, params: PyTree) -> None:
        """Refuse what would change the training without a word: rules that match no parameter.

        The default `no_decay` is exempt, since nobody wrote it for this model; so are the method's
        own groups when `scope` hides a part of its parameters.

        Raises:
            UserError: naming the entry, and the paths there are.
        """
        entries = [(g.pattern, g.origin) for g in self.groups]
        if self.scope:
            entries = [e for e in entries if e[1].startswith("config.")]
        if self.no_decay and self.no_decay != NO_DECAY:
            entries.append((self.no_decay, "config.optim.no_decay"))
        names = self._names(params)
        for pattern, origin in entries:
            if not any(re.search(pattern, name) for name in names):
                raise UserError(
                    f"{origin}: {pattern!r} matches no parameter; the {len(names)} paths are"
                    f" {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"
                )
        if self.layer_decay and all(i is None for i in self._depth_ids(params).values()):
            raise UserError(
                f"config.optim.layer_decay: {self.layer_decay:g}, but this method does not say"
                " which layer a parameter belongs to (Method.layers); set it to 0"
            )

    def table(self, params: PyTree) -> str:
        """A table for the log: path, shape, group, lr multiplier and decay of every leaf; totals.

        Args:
            params: arrays or `jax.ShapeDtypeStruct`s.
        """
        names, leaves = self._names(params), jax.tree.leaves(params)
        factors = jax.tree.leaves(self.multipliers(params))
        rows = [("parameter", "shape", "group", "lr x", "decay")]
        for name, leaf, factor in zip(names, leaves, factors, strict=True):
            group = self.group(name)
            rate = "0" if self.is_frozen(name) else _span(factor)
            decay = "yes" if self.is_decayed(name) else "no"
            rows.append((name, str(leaf.shape), group.action if group else "-", rate, decay))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        total = sum(math.prod(leaf.shape) for leaf in leaves)
        frozen = sum(
            math.prod(leaf.shape)
            for name, leaf in zip(names, leaves, strict=True)
            if self.is_frozen(name)
        )
        return "\n".join([*lines, f"{total - frozen:,} values trained, {frozen:,} frozen"])

    def _full(self, name: str) -> str:
        return f"{self.scope}/{name}" if self.scope else name

    def _map(self, fn: Callable[[str, Any], Any], tree: PyTree) -> PyTree:
        return map_with_name(lambda name, leaf: fn(self._full(name), leaf), tree)

    def _names(self, tree: PyTree) -> list[str]:
        return [self._full(name) for name in leaf_names(tree)]

    def _depth_ids(self, tree: PyTree) -> dict[str, int | tuple[int, ...] | None]:
        on = self.layer_decay > 0 and self.layers is not None
        return {name: self.layers(name) if on else None for name in self._names(tree)}


def parse_groups(entries: Sequence[Sequence[str]], origin: str) -> tuple[Group, ...]:
    """`((regex, action), ...)` as `Group`s whose origin is `origin[i]`.

    Raises:
        UserError: if an entry is not a pair of texts, or `Group` refuses it.
    """
    groups = []
    for i, entry in enumerate(entries):
        if isinstance(entry, str) or len(entry) != 2 or not all(isinstance(e, str) for e in entry):
            raise UserError(f"{origin}[{i}]: needs a pair (regex, action), got {entry!r}")
        groups.append(Group(entry[0], entry[1], f"{origin}[{i}]"))
    return tuple(groups)


def compile_regex(pattern: str, origin: str) -> re.Pattern:
    """`re.compile` that raises UserError naming `origin`."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(f"{origin}: {pattern!r} is not a regular expression: {error}") from error


def _broadcastable(ids: int | tuple[int, ...], leaf: Any, name: str) -> np.ndarray:
    """Depth ids as float64[] or float64[L, 1, ..., 1] with as many axes as the leaf."""
    depth = np.asarray(ids, np.float64)
    if depth.ndim == 0:
        return depth
    if not leaf.ndim or len(depth) != leaf.shape[0]:
        raise UserError(
            f"Method.layers: {len(depth)} depth ids for {name}, whose shape is {leaf.shape}; a"
            " tuple needs one id for each slice of the leading axis"
        )
    return depth.reshape(-1, *[1] * (leaf.ndim - 1))


def _span(factor: np.ndarray) -> str:
    low, high = f"{factor.min():.4g}", f"{factor.max():.4g}"
    return low if low == high else f"{low} .. {high}"
