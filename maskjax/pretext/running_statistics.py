"""Running statistics of batch norms on their way through a training step.

A phase may not change `extra`: it hands the new statistics on as means, which `after_update` takes
over. Methods with them are `coupled`: the statistics are those of the whole batch.
"""

from typing import Any

import jax

from maskjax.method import Aux, Mean, Tree

NAME = "batch_stats"


def as_means(state: Any) -> Aux:
    """What a phase returns beside its own means, from the collections that `apply` changed."""
    leaves = jax.tree.leaves(state[NAME])
    return {f"{NAME}/{i}": Mean(leaf, 1.0) for i, leaf in enumerate(leaves)}


def taken_over(extra: Tree, aux: Aux) -> Tree:
    """`extra` with the new statistics, from the means of the step."""
    structure = jax.tree.structure(extra[NAME])
    leaves = [aux[f"{NAME}/{i}"].sum for i in range(structure.num_leaves)]
    return {**extra, NAME: jax.tree.unflatten(structure, leaves)}
