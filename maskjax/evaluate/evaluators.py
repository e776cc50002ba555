"""The evaluators by name, as `config.evaluate.evaluators` and `--evaluators` list them."""

import difflib
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from maskjax.errors import UserError
from maskjax.evaluate.classification import Classification
from maskjax.evaluate.cloud_evaluators import Completion
from maskjax.evaluate.evaluator import Evaluator, Inputs
from maskjax.evaluate.feature_evaluators import Knn, LinearProbe, Rank, RawPixels
from maskjax.evaluate.layers import LAYER_KINDS, LayerProbe
from maskjax.evaluate.patch_maps import KINDS, PatchMap
from maskjax.evaluate.picture_evaluators import HeldOut, Reconstruction
from maskjax.evaluate.probe_evaluators import (
    LinearSvm,
    LowShot,
    MlpProbe,
    SubsetProbe,
    TrainedProbe,
)

EVALUATORS: dict[str, Callable[..., Evaluator]] = {
    "knn": Knn,
    "linear_probe": LinearProbe,
    "rank": Rank,
    "classify": Classification,
    "low_shot": LowShot,
    "subset_probe": SubsetProbe,
    "mae_probe": TrainedProbe,
    "mlp_probe": MlpProbe,
    "linear_svm": LinearSvm,
    "raw_pixels": RawPixels,
    "reconstruction": Reconstruction,
    "held_out": HeldOut,
    "completion": Completion,
    **{kind.name: functools.partial(PatchMap, kind=kind) for kind in KINDS},
    **{kind.name: functools.partial(LayerProbe, kind=kind) for kind in LAYER_KINDS},
}


def make_evaluators(
    names: Iterable[str],
    inputs: Inputs,
    *,
    every: int = 0,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Evaluator]:
    """Evaluators by name, in that order, over shared data.

    Args:
        names: keys of `EVALUATORS`.
        inputs: the data; features are computed once for all of them.
        every: training steps between runs, for all.
        options: {name: keyword arguments of its class}; those of evaluators not named are ignored.

    Raises:
        UserError: for an unknown name (lists the valid ones) or option.
    """
    check_names(names := tuple(names))
    made = []
    for name in names:
        chosen = dict((options or {}).get(name, {}))
        try:
            made.append(EVALUATORS[name](inputs, every=every, **chosen))
        except TypeError as error:
            raise UserError(f"evaluator {name!r}: {error}") from error
    return made


NEED_LABELS = frozenset(
    (
        *("knn", "linear_probe", "linear_svm", "classify"),
        *("low_shot", "subset_probe", "mae_probe", "mlp_probe"),
    )
)


def check_names(names: Iterable[str]) -> None:
    """Checks names before anything slow begins.

    Raises:
        UserError: for an unknown name (lists the valid ones).
    """
    for name in names:
        if name not in EVALUATORS:
            near = difflib.get_close_matches(name, EVALUATORS, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UserError(f"no evaluator {name!r}.{hint} Evaluators: {', '.join(EVALUATORS)}")
