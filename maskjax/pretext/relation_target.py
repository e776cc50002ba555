"""Relations of tokens in several layers of a frozen teacher, compared inside a student's layers."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping

import jax.numpy as jnp
from einops import rearrange
from jax import Array
from ml_collections import ConfigDict

from maskjax import losses
from maskjax.losses.relation import RELATION_DISTANCES, Distance
from maskjax.method import Tree, require
from maskjax.nn import flops
from maskjax.nn.shrinking_vit import Probe
from maskjax.nn.vit import Size
from maskjax.pretext.teacher import Teacher, teacher

PAIRS = {"query_key": ("query", "key"), "value_value": ("value", "value")}


@dataclasses.dataclass(frozen=True)
class RelationTarget:
    """What is compared, for one configuration.

    Attributes:
        teacher: whose relations.
        layers: blocks of both networks, rising.
        pairs: names of `PAIRS`.
        heads: see `losses.relations`.
        distance: see `losses.relation_error`.
    """

    teacher: Teacher
    layers: tuple[int, ...]
    pairs: tuple[str, ...]
    heads: int
    distance: Distance

    @property
    def blocks(self) -> int:
        """How many of the teacher's blocks run."""
        return self.layers[-1] + 1

    def targets(self, params: Tree, patches: Array, ids: Array | None = None) -> dict[str, Array]:
        """The teacher's queries, keys or values in the layers: {name: [n, B, H, E + N, d]}.

        Not the relations themselves: those of all layers would be several times as large. Without
        gradient; arguments as of the teacher.
        """
        names = sorted({name for pair in self.pairs for name in PAIRS[pair]})
        # Of a few layers, each by itself; else of all, in one loop.
        few = 2 * len(self.layers) <= self.blocks
        taps = [f"{name}/{layer}" for name in names for layer in self.layers] if few else names
        _, seen = self.teacher(params, patches, ids, taps=taps, blocks=self.blocks)
        if few:
            return {n: jnp.stack([seen[f"{n}/{layer}"] for layer in self.layers]) for n in names}
        chosen = jnp.asarray(self.layers)
        return seen if len(chosen) == self.blocks else {n: x[chosen] for n, x in seen.items()}

    def prober(
        self, targets: Mapping[str, Array], ids: Array | None
    ) -> Callable[[tuple[int, ...], int], Probe]:
        """(layers, patches they see) -> probe of `ShrinkingEncoder.shrinking`: float32[B].

        The mean over heads, rows and columns of how far relations are off, both over the tokens
        that the student has left in that layer; a sum over `pairs`.

        Args:
            targets: as `targets` gives them.
            ids: int[B, N], the student's patches in the order in which they stay, if the teacher
                saw all patches; None = it saw the student's, in this order.
        """

        def probe(layers: tuple[int, ...], count: int) -> Probe:
            first = self.layers.index(layers[0])
            some = {name: x[first : first + len(layers)] for name, x in targets.items()}
            some = {name: self._chosen(x, ids, count) for name, x in some.items()}

            def compare(seen: Mapping[str, Array], number: Array) -> Array:
                wanted = {name: x[number] for name, x in some.items()}
                own = {name: self._comparable(seen[name]) for name in wanted}
                return sum(self._error(own, wanted, *PAIRS[pair]) for pair in self.pairs)

            return compare

        return probe

    def _error(
        self, own: Mapping[str, Array], wanted: Mapping[str, Array], left: str, right: str
    ) -> Array:
        """Of one pair, float32[B]."""
        both = (losses.relations(x[left], x[right], self.heads) for x in (own, wanted))
        return losses.relation_error(*both, self.distance).mean((1, 2))

    def _chosen(self, x: Array, ids: Array | None, count: int) -> Array:
        """[n, B, H, E + N, d] -> of the class token, if there is one, and the first patches."""
        num, _, heads = x.shape[:3]
        ids = None if ids is None else ids[:, :count]
        x = rearrange(x, "n b h t d -> b t (n h d)")
        x = self.teacher.pick(x, ids, cls=self.teacher.geometry.cls)
        return rearrange(x, "b t (n h d) -> n b h t d", n=num, h=heads)

    def _comparable(self, x: Array) -> Array:
        """The student's [B, H, 1 + K, d] without a class token that the teacher has not."""
        return x if self.teacher.geometry.cls else x[:, :, 1:]

    def flops(self, pairs: int, dim: int = 0) -> int:
        """Of relations between so many pairs of tokens, over layers; `dim`: 0 = the teacher's."""
        return len(self.pairs) * flops.linear(pairs, dim or self.teacher.geometry.dim, 1)


def relation_target(
    cfg: ConfigDict, name: str, size: Size, grid: tuple[int, int]
) -> RelationTarget:
    """From relation_layers, relations, relation_heads and relation_distance of `config.model`.

    Args:
        cfg: `config.model`; an empty relation_distance is `distance`, no layers are all but the
            last.
        name: of the teacher's group.
        size: of the student.
        grid: (rows, columns) of its patches.

    Raises:
        UserError: naming the entry that does not fit.
    """
    one = teacher(cfg, name, grid)
    layers = tuple(cfg.relation_layers) or tuple(range(max(1, size.depth - 1)))
    rising = all(a < b for a, b in itertools.pairwise(layers))
    depth = min(size.depth, one.geometry.depth)
    what = f"must rise, within the {depth} blocks that student and teacher have"
    fits = rising and layers[0] >= 0 and layers[-1] < depth
    require(fits, "model.relation_layers", layers, what)
    pairs = tuple(cfg.relations)
    fits = pairs and all(pair in PAIRS for pair in pairs)
    require(fits, "model.relations", pairs, f"must be some of {', '.join(PAIRS)}")
    distance = cfg.relation_distance or cfg.distance
    known = " or ".join(RELATION_DISTANCES)
    require(distance in RELATION_DISTANCES, "model.relation_distance", distance, known)
    _check_heads(cfg.relation_heads, size, one, name)
    return RelationTarget(one, layers, pairs, cfg.relation_heads, distance)


def _check_heads(heads: int, size: Size, one: Teacher, name: str):
    widths, both = (size.dim, one.geometry.dim), (size.heads, one.geometry.heads)
    if heads:
        fits = isinstance(heads, int) and heads > 0 and all(w % heads == 0 for w in widths)
        require(fits, "model.relation_heads", heads, f"must divide both widths, {widths}")
    else:
        what = f"student and {name} have {both} heads; name a number to cut both into"
        require(both[0] == both[1], "model.relation_heads", heads, what)
