"""MTO: masked token optimisation, on top of a method whose attention layers hold mask tokens.

Choi, Lee, Joung, Park, Kim, Min, "Emerging Property of Masked Token for Effective Pre-training",
ECCV 2024. OUR RECONSTRUCTION: the paper's equations, layers and weights are not known to us; these
are chosen to meet its stated aims. A host asks for the bias of its attention scores and the probes
of its layers, and adds the three terms to its loss. With all weights and `beta` 0 nothing changes.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from maskjax.losses import Term, mask_tokens
from maskjax.method import Terms, require
from maskjax.nn.stack import Probe

# All values are ours.
DEFAULTS = {
    "on": False,
    "sparsity": 0.01,  # weight of L_spa
    "singularity": 0.1,  # weight of L_e
    "restoration": 0.01,  # weight of L_r
    "beta": 4.0,  # scores of mask tokens, for visible queries, lose beta * (1 - layer / depth)
    "temperature": 0.1,
    "early": 0.25,  # share of the layers that L_e and the first part of L_spa are for
    "late": 0.5,  # share of the layers that L_r is for
    "warmup": 0.05,  # share of the steps over which the weights rise
}


@dataclasses.dataclass(frozen=True)
class TokenOptimization:
    """The three losses and the recalibration, for a stack of `depth` layers.

    Attributes:
        depth: number of layers.
        weights: {"sparsity", "singularity", "restoration": weight}.
        beta, temperature: see `DEFAULTS`.
        early, late: how many layers count as early, as late; at least one each.
        warmup_steps: steps over which the weights rise from 0.
    """

    depth: int
    weights: Mapping[str, float]
    beta: float
    temperature: float
    early: int
    late: int
    warmup_steps: int

    def bias(self, visible: Array, hidden: Array) -> Callable[[Array], Array] | None:
        """layer's number -> bias [B, 1, T, T] of the scores; None where beta is 0.

        Args:
            visible, hidden: bool[B, T], visible tokens and mask tokens; others (cls) are neither.
        """
        if not self.beta:
            return None

        def of_layer(layer: Array) -> Array:
            strength = -self.beta * (1 - (layer + 1) / self.depth)
            return mask_tokens.recalibration(visible, hidden, strength)[:, None]

        return of_layer

    def probes(self, visible: Array, hidden: Array) -> dict[str, Probe]:
        """For `Stack`: sums over the tokens of each loss in each layer, float32[depth, B]."""

        def total(values: Array, where: Array) -> Array:
            return jnp.where(where, values, 0).sum(tuple(range(1, values.ndim)))

        def singularity(seen: Mapping[str, Array], layer: Array) -> Array:
            losses = mask_tokens.singularity_loss(seen["block"], visible, self.temperature)
            return jnp.where(layer < self.early, total(losses, hidden), 0)

        def restoration(seen: Mapping[str, Array], layer: Array) -> Array:
            losses = mask_tokens.restoration_loss(seen["attention"], visible)
            late = layer >= self.depth - self.late
            return jnp.where(late, total(losses, hidden[:, None]) / losses.shape[1], 0)

        def sparsity(seen: Mapping[str, Array], layer: Array) -> Array:
            early = layer < self.early
            losses = mask_tokens.sparsity_loss(seen["attention"], hidden, early)
            return total(losses, visible[:, None]) / losses.shape[1]

        found = {"singularity": singularity, "restoration": restoration, "sparsity": sparsity}
        return {f"mto_{name}": fn for name, fn in found.items() if self.weights[name]}

    def cross_probes(self, sources: Array, places: Array) -> dict[str, Probe]:
        """As `probes`, for blocks whose tokens are mask tokens that see a memory and each other.

        The keys are those of the memory first. No visible token asks: L_spa and the recalibration
        have nothing to act on.

        Args:
            sources: [B, K, D], the memory: visible tokens, positions added.
            places: [B, M, D], positions of the mask tokens.
        """
        visible = jnp.ones(sources.shape[:2], bool)
        keys = jnp.pad(visible, ((0, 0), (0, places.shape[1])))

        def singularity(seen: Mapping[str, Array], layer: Array) -> Array:
            x = seen["block"] + places.astype(seen["block"].dtype)
            losses = mask_tokens.singularity_loss(x, visible, self.temperature, sources)
            return jnp.where(layer < self.early, losses.sum(-1), 0)

        def restoration(seen: Mapping[str, Array], layer: Array) -> Array:
            losses = mask_tokens.restoration_loss(seen["attention"], keys).mean(1)
            return jnp.where(layer >= self.depth - self.late, losses.sum(-1), 0)

        found = {"singularity": singularity, "restoration": restoration}
        return {f"mto_{name}": fn for name, fn in found.items() if self.weights[name]}

    def terms(self, seen: Mapping[str, Array], visible: Array, hidden: Array, step: Array) -> Terms:
        """What the probes found, as terms of the loss: means over tokens and layers."""
        layers = {"singularity": self.early, "restoration": self.late, "sparsity": self.depth}
        tokens = {"singularity": hidden, "restoration": hidden, "sparsity": visible}
        rise = 1.0
        if self.warmup_steps:
            rise = jnp.minimum(jnp.float32(step) / self.warmup_steps, 1)
        terms = {}
        for name, count in layers.items():
            if f"mto_{name}" in seen:
                weight = count * tokens[name].sum(dtype=jnp.float32)
                value = seen[f"mto_{name}"].sum()
                terms[f"mto_{name}"] = Term(value, weight, rise * self.weights[name])
        return terms


def token_optimization(
    cfg: ConfigDict, depth: int, total_steps: int, *, path: str = "model.mto"
) -> TokenOptimization | None:
    """From the entries of `DEFAULTS` at `config.<path>`; None where it is off.

    Raises:
        UserError: for a value out of range.
    """
    if not cfg.on:
        return None
    for key in ("sparsity", "singularity", "restoration", "beta"):
        require(cfg[key] >= 0, f"{path}.{key}", cfg[key], "must not be negative")
    require(cfg.temperature > 0, f"{path}.temperature", cfg.temperature, "must be positive")
    for key in ("early", "late", "warmup"):
        require(0 <= cfg[key] <= 1, f"{path}.{key}", cfg[key], "must lie in [0, 1]")
    return TokenOptimization(
        depth,
        {key: cfg[key] for key in ("sparsity", "singularity", "restoration")},
        cfg.beta,
        cfg.temperature,
        max(1, int(cfg.early * depth)),
        max(1, int(cfg.late * depth)),
        int(cfg.warmup * total_steps),
    )
