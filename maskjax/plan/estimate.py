"""Memory of a step from its traced program alone, for want of a compiler.

The program is traced for the examples of one device, and its arrays are followed in the order in
which they are written: an array takes memory from the operation that makes it to the last one that
reads it. What a compiler fuses away or orders otherwise is not known here.
"""

import collections
import dataclasses
import math
from collections.abc import Mapping

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var
from ml_collections import ConfigDict

from maskjax import build
from maskjax.data_parts import example_batch
from maskjax.method import Tree
from maskjax.options import for_platform
from maskjax.plan.compile import shard_bytes

# Results of these take no memory of their own: they are read through.
_VIEWS = frozenset(
    ("reshape", "broadcast_in_dim", "squeeze", "expand_dims", "transpose", "rev", "iota")
)
# What makes new values of a parameter's shape. Everything else of that shape belongs to the update
# of parameters and moments, which a compiler fuses into one pass over their own memory.
_MAKERS = frozenset(("dot_general", "conv_general_dilated", "gather", "scatter-add", "sort"))


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How many bytes of one device an array takes.

    Attributes:
        shares: {shape of a parameter: the share of it that one device holds}.
    """

    shares: Mapping[tuple[int, ...], float]

    def of(self, var: Var) -> int:
        """Bytes of an array; of a gradient, or anything else of a parameter's shape, its shard."""
        shape = getattr(var.aval, "shape", ())
        itemsize = getattr(getattr(var.aval, "dtype", None), "itemsize", 0)
        return int(math.prod(shape) * itemsize * self.shares.get(shape, 1.0))

    def made(self, equation: JaxprEqn) -> list[int]:
        """Bytes of each result of an operation that calls nothing."""
        kind = equation.primitive.name
        if kind in _VIEWS:
            return [0] * len(equation.outvars)
        fused = self.shares if kind not in _MAKERS else ()
        return [0 if v.aval.shape in fused else self.of(v) for v in equation.outvars]


def activation_bytes(config: ConfigDict, state: Tree, shards: int, platform: str) -> int:
    """Bytes of one device beside state and batch at the fullest moment of a step, about.

    Args:
        config: resolved.
        state: `jax.ShapeDtypeStruct`s with their shardings: the whole train state.
        shards: over how many parts of the mesh the batch is spread. A tensor axis is not followed:
            activations are counted as if it did not divide them.
        platform: "tpu" or "gpu".
    """
    local = config.copy_and_resolve_references()
    local.mesh.update(dict.fromkeys(local.mesh, 1))
    local.data.global_batch //= shards
    local.model.update(for_platform({"scan": config.model.get("scan")}, platform))
    parts = build.experiment(local, local.data.global_batch, jax.devices("cpu")[:1])
    batch = example_batch(local, local.data.global_batch)
    traced = parts.step().trace(parts.abstract_state, batch, parts.method.static(0))
    return _peak(traced.jaxpr.jaxpr, Sizes(_sharded_shapes(state.params)))


def _sharded_shapes(params: Tree) -> dict[tuple[int, ...], float]:
    """{shape of a parameter: the share of it that one device holds}."""
    return {
        leaf.shape: shard_bytes(leaf) / (math.prod(leaf.shape) * leaf.dtype.itemsize)
        for leaf in jax.tree.leaves(params)
        if leaf.ndim > 1
    }


def _peak(jaxpr: Jaxpr, sizes: Sizes) -> int:
    """Most bytes alive at once of what the operations of a program make; its inputs are not."""
    return _follow(jaxpr, sizes)[0]


def _follow(jaxpr: Jaxpr, sizes: Sizes) -> tuple[int, list[int]]:
    """(most bytes alive at once, bytes that each result takes)."""
    last, taken = _last_uses(jaxpr), {}
    dying: dict[int, list[Var]] = collections.defaultdict(list)
    live = most = 0
    for number, equation in enumerate(jaxpr.eqns):
        if not any(var in last for var in equation.outvars):  # nobody wants it
            continue
        running, results = _operation(equation, sizes)
        made = {v: n for v, n in zip(equation.outvars, results, strict=True) if v in last}
        taken |= made
        most = max(most, live + running)
        live += sum(made.values())
        for var in made:
            dying[last[var]].append(var)
        live -= sum(taken[var] for var in dying.pop(number, ()))
    return most, [taken.get(v, 0) if isinstance(v, Var) else 0 for v in jaxpr.outvars]


def _operation(equation: JaxprEqn, sizes: Sizes) -> tuple[int, list[int]]:
    """(bytes that an operation takes while it runs, with its results, bytes of each result)."""
    inner = [_follow(jaxpr, sizes) for jaxpr in _called(equation.params)]
    if not inner:
        results = sizes.made(equation)
        return sum(results), results
    running, loop = max(most for most, _ in inner), equation.primitive.name in ("scan", "while")
    if not loop and len(inner) == 1 and len(inner[0][1]) == len(equation.outvars):
        return running, inner[0][1]  # a call: as its body made them
    results = [sizes.of(var) for var in equation.outvars]
    return sum(results) + running, results  # of loops they are there from the first turn


def _last_uses(jaxpr: Jaxpr) -> dict[Var, int]:
    """{array: number of the last operation that reads it}; views keep what they look at alive."""
    last = {var: len(jaxpr.eqns) for var in jaxpr.outvars if isinstance(var, Var)}
    for number, equation in reversed(list(enumerate(jaxpr.eqns))):
        until = number
        if equation.primitive.name in _VIEWS:
            until = max([number, *(last[var] for var in equation.outvars if var in last)])
        for var in equation.invars:
            if not isinstance(var, Literal):
                last[var] = max(last.get(var, 0), until)
    return last


def _called(params: dict) -> list[Jaxpr]:
    found = []
    for name, value in params.items():
        if name in ("fwd_jaxpr_thunk", "bwd", "jvp_jaxpr_fun"):
            continue
        for one in value if isinstance(value, tuple | list) else (value,):
            if isinstance(one, ClosedJaxpr):
                found.append(one.jaxpr)
            elif isinstance(one, Jaxpr):
                found.append(one)
    return found
