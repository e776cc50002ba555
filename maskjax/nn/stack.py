"""A stack of equal blocks with one set of stacked parameters, scanned or unrolled."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from maskjax.nn import lean
from maskjax.nn.attention import Allow
from maskjax.nn.block import drop_scales
from maskjax.nn.sharding import constrain_batch

Remat = Literal["none", "dots", "full"]
TAPS = ("block", "query", "key", "value", "attention")
# What is added to the scores: one array for all layers, or a function of a layer's number int32[].
Bias = Array | Callable[[Array], Array]
# ({tap: activation} of a layer, its number int32[]) -> something smaller.
Probe = Callable[[Mapping[str, Array], Array], Array]


@dataclasses.dataclass(frozen=True)
class Stack:
    """Applies `depth` copies of a block; every parameter has a leading depth axis.

    Scanned and unrolled, and under every `remat`, parameters and numbers are the same.

    Attributes:
        block: an unbound linen module (x, branch_scale, allow, *context) -> (x, {tap: activation}),
            with a keyword `bias` where calls have one; or several that take turns and have the same
            parameters (Swin: every other layer shifts its windows), made by the first of them.
        depth: number of blocks.
        scan: True = one loop over the layers (TPU, GPU: short compile, small code); False =
            unrolled (CPU, where slicing stacked weights in a loop costs up to 2x).
        remat: what the backward pass recomputes: "none", "dots" (all but what dense layers give;
            of attention's, queries, keys and values only), "full" (the whole block).
        drop_path: rate of the last block; it grows linearly from 0 (Huang et al. 2016), or
            (rate of the first block, rate of the last).
        taps: names of the activations that the block gives.
        allow_in: layers that the `allow` of a call is for; None = all.
        init_tokens: length of the example that the first values are made with.
    """

    block: nn.Module | tuple[nn.Module, ...]
    depth: int
    scan: bool = True
    remat: Remat = "none"
    drop_path: float | tuple[float, float] = 0.0
    taps: tuple[str, ...] = TAPS
    allow_in: tuple[int, ...] | None = None
    init_tokens: int = 2

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """The blocks that take turns, most often one."""
        return self.block if isinstance(self.block, tuple) else (self.block,)

    def init(self, key: Array, dim: int, context: Sequence[Array] = ()) -> dict:
        """Parameters for tokens of width `dim`, each with a leading axis of size `depth`.

        `context` is an example of what a call gets, for the example's tokens, a batch of one.
        """
        example = jnp.zeros((1, self.init_tokens, dim), jnp.float32)
        keys = jax.random.split(key, self.depth)
        # A loop, not a vmap: the same numbers from a generator that compiles in half the time.
        options = (None, None, *context)
        return jax.lax.map(lambda k: self.blocks[0].init(k, example, *options)["params"], keys)

    def __call__(
        self,
        params: dict,
        x: Array,
        *,
        taps: Sequence[str] = (),
        drop_noise: Array | None = None,
        allow: Allow | None = None,
        context: Sequence[Array] = (),
        bias: Bias | None = None,
        probes: Mapping[str, Probe] | None = None,
    ) -> tuple[Array, dict[str, Array]]:
        """x [B, N, D] -> [B, N, D] and the activations that were asked for.

        Args:
            params: as `init` makes them.
            x: tokens.
            taps: names of the block's taps, for all layers ([depth, ...]), or "name/i" for layer i.
            drop_noise: float32[B, depth, 2] in [0, 1), needed for drop-path; None = no dropping.
            allow: as of `Attention`, for every layer or those of `allow_in`.
            context: further arguments of the block, the same for every layer: a memory to look at.
            bias: as of `Attention`, for every layer alike, or a function of the layer's number that
                gives one: nothing of the size [depth, ...] has to exist.
            probes: {name: (what the block saw, the layer's number) -> array}: worked out inside the
                layer, so that attention maps need not be kept for all layers.

        Returns:
            Tokens and {tap or probe: [depth, ...]}.

        Raises:
            ValueError: for an unknown tap or layer.
        """
        _check_taps(taps, self.taps, self.depth)
        scales = None if drop_noise is None else self._branch_scales(drop_noise)
        numbers = jnp.arange(self.depth) if callable(bias) or probes else None
        parts = []
        for start, stop, masked, names in self._runs(allow is not None, taps):
            layers = (params, scales, numbers)
            if (start, stop) != (0, self.depth):
                layers = jax.tree.map(lambda leaf: leaf[start:stop], layers)  # noqa: B023
            options = (allow if masked else None, *context)
            run = functools.partial(self._body, names, options, bias, probes or {})
            turns = range(start, min(stop, start + len(self.blocks)))
            bodies = [run(self.blocks[i % len(self.blocks)]) for i in turns]
            x, seen = _scan(bodies, x, layers, stop - start, self.scan)
            parts.append((start, seen))
        return x, {tap: _pick(parts, tap, self.depth) for tap in (*taps, *(probes or ()))}

    def _body(
        self, names: Sequence[str], options: tuple, bias, probes: Mapping, block: nn.Module
    ) -> Callable:
        """One layer as (x, its slices) -> (x, taps)."""

        def body(x: Array, layer: tuple) -> tuple[Array, dict[str, Array]]:
            variables, scale, number = layer
            given = {} if bias is None else {"bias": bias(number) if callable(bias) else bias}
            x = constrain_batch(x)
            with lean.unrolled(not self.scan):
                x, seen = block.apply({"params": variables}, lean.cut(x), scale, *options, **given)
            probed = {name: probe(seen, number) for name, probe in probes.items()}
            return constrain_batch(x), {**{name: seen[name] for name in names}, **probed}

        return _rematerialised(body, self.remat, self.scan)

    def _runs(
        self, masked: bool, taps: Sequence[str]
    ) -> list[tuple[int, int, bool, tuple[str, ...]]]:
        """(start, stop, whether `allow` is for them, what is tapped) of layers that are alike.

        A loop stacks what it gives for all its layers, so one layer's taps get a loop of their own.
        """
        inside = range(self.depth) if self.allow_in is None else self.allow_in
        alike = [
            (masked and layer in inside, _tapped(taps, layer, self.depth))
            for layer in range(self.depth)
        ]
        borders = [i for i in range(1, self.depth) if alike[i] != alike[i - 1]]
        pairs = zip([0, *borders], [*borders, self.depth], strict=True)
        return [(start, stop, *alike[start]) for start, stop in pairs]

    def _branch_scales(self, noise: Array) -> Array:
        """float32[depth, 2, B]: 0 with probability `rate`, else 1 / (1 - rate)."""
        return jnp.moveaxis(drop_scales(noise, self.drop_path), 0, -1)


def _check_taps(taps: Sequence[str], known: Sequence[str], depth: int):
    for tap in taps:
        name, _, layer = tap.partition("/")
        if name not in known:
            raise ValueError(f"unknown tap {tap!r}; taps are {', '.join(known)}, or NAME/LAYER")
        if layer and not -depth <= int(layer) < depth:
            raise ValueError(f"tap {tap!r}: the stack has layers 0..{depth - 1}")


def _tapped(taps: Sequence[str], layer: int, depth: int) -> tuple[str, ...]:
    """Names that are wanted of a layer."""
    parts = (tap.partition("/") for tap in taps)
    wanted = (name for name, _, index in parts if not index or int(index) % depth == layer)
    return tuple(dict.fromkeys(wanted))


def _scan(
    bodies: Sequence[Callable], x: Array, layers: tuple, depth: int, scan: bool
) -> tuple[Array, dict[str, Array]]:
    """`lax.scan` over layers whose bodies take turns; `layers` is a tree of arrays [depth, ...]."""
    rounds, rest = divmod(depth, len(bodies))
    unroll, size = 1 if scan else rounds, depth - rest
    if len(bodies) == 1:
        return jax.lax.scan(bodies[0], x, layers, length=depth, unroll=unroll)

    def one_round(x: Array, layers: tuple) -> tuple[Array, dict[str, Array]]:
        x, found = _in_turn(bodies, x, layers)
        return x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)

    def joined(looped: Array, *others: Array) -> Array:
        looped = looped.reshape(size, *looped.shape[2:])
        return jnp.concatenate([looped, *(leaf[None] for leaf in others)])

    split = lambda leaf: leaf[:size].reshape(rounds, len(bodies), *leaf.shape[1:])  # noqa: E731
    x, seen = jax.lax.scan(one_round, x, jax.tree.map(split, layers), length=rounds, unroll=unroll)
    x, found = _in_turn(bodies[:rest], x, jax.tree.map(lambda leaf: leaf[size:], layers))
    return x, jax.tree.map(joined, seen, *found)


def _in_turn(bodies: Sequence[Callable], x: Array, layers: tuple) -> tuple[Array, list]:
    found = []
    for index, body in enumerate(bodies):
        x, seen = body(x, jax.tree.map(lambda leaf: leaf[index], layers))  # noqa: B023
        found.append(seen)
    return x, found


def _pick(parts: Sequence[tuple[int, dict[str, Array]]], tap: str, depth: int) -> Array:
    """One tap from runs of layers, (first layer, what it gave)."""
    name, _, layer = tap.partition("/")
    if layer:
        index = int(layer) % depth
        start, seen = [part for part in parts if part[0] <= index][-1]
        return seen[name][index - start]
    found = [seen[name] for _, seen in parts]
    return found[0] if len(found) == 1 else jnp.concatenate(found)


def _rematerialised(body, remat: Remat, scan: bool):
    if remat == "none":
        return body
    policies = {
        "full": jax.checkpoint_policies.nothing_saveable,
        # By name, so that what is kept is the result in the compute type, not the accumulator.
        "dots": jax.checkpoint_policies.save_only_these_names(lean.NAME),
    }
    if remat not in policies:
        raise ValueError(f"remat must be 'none', 'dots' or 'full', got {remat!r}")
    # Inside a scan the loop itself keeps the compiler from undoing the rematerialisation.
    return jax.checkpoint(body, policy=policies[remat], prevent_cse=not scan)
