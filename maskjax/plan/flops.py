"""FLOPs of a step as XLA counts them, beside the formula of the method."""

import jax
from ml_collections import ConfigDict

from maskjax import build
from maskjax.data_parts import example_batch


def counted_flops(config: ConfigDict, *, whole: bool = False) -> float:
    """FLOPs of one step over the global batch, in XLA's count of the program before optimisation.

    XLA counts a loop over layers once, and the unrolled step of a deep model takes minutes to
    lower. So steps with one and with two layers of each stack are counted, without compiling them;
    the difference is the cost of a layer. Counted are all operations, not matmuls only.

    Args:
        config: resolved; `remat` and `accumulate` are left out, since what is computed twice is no
            work of the model.
        whole: count the unrolled step after all: for methods whose config says which of the layers
            they want, so that they have no step of one layer.

    Raises:
        UserError: if there is no such step, unless `whole`.
    """
    if whole:
        return _count(config, {})
    stacks = _stacks(config.model)
    shallow = total = _count(config, dict.fromkeys(stacks, 1))
    for path, depth in stacks.items():
        deeper = _count(config, {**dict.fromkeys(stacks, 1), path: 2})
        total += (depth - 1) * (deeper - shallow)
    return total


def _stacks(model: ConfigDict, prefix: str = "") -> dict[str, int]:
    """{path of an entry: its depth} of every stack of layers in `config.model`."""
    found = {}
    for key, value in model.items():
        if isinstance(value, ConfigDict):
            found |= _stacks(value, f"{prefix}{key}.")
        elif key == "depth":
            found[prefix + key] = value
    return found


def _count(config: ConfigDict, depths: dict[str, int]) -> float:
    small = config.copy_and_resolve_references()
    small.update_from_flattened_dict({f"model.{path}": depth for path, depth in depths.items()})
    small.mesh.update(dict.fromkeys(small.mesh, 1))
    small.train.accumulate = 1
    for key, value in {"scan": "off", "remat": "none"}.items():
        if key in small.model:
            small.model[key] = value
    parts = build.experiment(small, small.data.global_batch, jax.devices("cpu")[:1])
    batch = example_batch(small, small.data.global_batch)
    lowered = parts.step().lower(parts.abstract_state, batch, parts.method.static(0))
    return lowered.cost_analysis()["flops"]
