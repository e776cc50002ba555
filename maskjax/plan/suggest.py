"""Tries meshes, recomputation and micro-batches, and says which to take.

Candidates are ordered by a rough time per step, and the first one that fits wins: memory by the
estimate, then by the target's compiler where it is installed. The rough time only orders them.
"""

import dataclasses
import itertools
from collections.abc import Iterator

from ml_collections import ConfigDict

from maskjax.errors import UserError
from maskjax.observe.flops import peak_flops
from maskjax.plan import target as targets
from maskjax.plan.axes import indivisible
from maskjax.plan.hardware import Hardware
from maskjax.plan.ideal import Traffic, ideal_traffic
from maskjax.plan.report import Plan, abstract_experiment, make_plan
from maskjax.train.sharding import batch_shards

# Extra work of the backward pass, as a share of the step: "full" runs the forward pass again, which
# is a third; "dots" all of it but the dense layers (a round number).
_RECOMPUTED = {"none": 0.0, "dots": 0.05, "full": 1 / 3}
_ACCUMULATE = (1, 2, 4, 8, 16)
_FSDP, _TENSOR = (1, 8, 16, 32, 64), (1, 2, 4)
# Bytes per second and device: round numbers below what links are sold for, to order candidates by.
_LINK = {"tpu": 100e9, "gpu": 50e9}
_COMPILATIONS = 3


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A way to run a config.

    Attributes:
        mesh: {axis: size}.
        remat, accumulate: entries of the config.
        seconds: a rough time per step.
    """

    mesh: dict[str, int]
    remat: str
    accumulate: int
    seconds: float

    def applied(self, config: ConfigDict) -> ConfigDict:
        """The config with it."""
        changed = config.copy_and_resolve_references()
        changed.mesh.update(self.mesh)
        changed.train.accumulate = self.accumulate
        if "remat" in changed.model:
            changed.model.remat = self.remat
        return changed

    @property
    def flags(self) -> str:
        """For the command line."""
        axes = [f"--config.mesh.{axis}={size}" for axis, size in self.mesh.items() if size > 1]
        more = [f"--config.model.remat={self.remat}"] if self.remat != "none" else []
        if self.accumulate > 1:
            more.append(f"--config.train.accumulate={self.accumulate}")
        return " ".join([*axes, *more]) or "the config as it is"


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """What was tried.

    Attributes:
        tried: [(candidate, its plan)] in the order of the rough time; a candidate that was
            estimated and compiled is there twice.
        best: the last one tried, if it fits.
    """

    tried: list[tuple[Candidate, Plan]]
    best: tuple[Candidate, Plan] | None


def suggest(
    config: ConfigDict, hardware: Hardware, *, num_examples: int, mfu: float, compiler: bool | None
) -> Suggestion:
    """The quickest candidate that fits.

    A tensor axis is tried only if nothing fits without one. Where only the estimate is there, a
    candidate must fit beyond its error.

    Args:
        config: resolved; its own mesh, remat and accumulate are not looked at.
        hardware, num_examples, mfu, compiler: as of `make_plan`.

    Raises:
        UserError: if no mesh at all takes the batch.
    """
    if compiler is None:
        compiler = not targets.missing(hardware.name)
    options = {"num_examples": num_examples, "mfu": mfu, "count_flops": False}
    found = candidates(config, hardware, num_examples, mfu)
    if not found:
        raise UserError(
            f"--suggest: no mesh of {hardware.num_devices} devices divides"
            f" config.data.global_batch = {config.data.global_batch}; change it"
        )
    tried: list[tuple[Candidate, Plan]] = []
    compiled = 0
    for candidate in found:
        changed = candidate.applied(config)
        plan = make_plan(changed, hardware, compiler=False, **options)
        tried.append((candidate, plan))
        if plan.fits is False or (plan.fits is None and not compiler):
            continue
        if compiler and compiled < _COMPILATIONS:
            compiled += 1
            plan = make_plan(changed, hardware, compiler=True, **options)
            tried.append((candidate, plan))
        if plan.fits:
            return Suggestion(tried, (candidate, plan))
    return Suggestion(tried, None)


def candidates(
    config: ConfigDict, hardware: Hardware, num_examples: int, mfu: float
) -> list[Candidate]:
    """All that the batch divides over, without a tensor axis first, then the quickest."""
    found = []
    for mesh in _meshes(hardware.num_devices):
        changed = Candidate(mesh, "none", 1, 0.0).applied(config)
        parts = abstract_experiment(changed, hardware, num_examples)
        state = parts.abstract_state.params
        if mesh["tensor"] > 1 and any("tensor" in str(one) for one in indivisible(state)):
            continue
        traffic = ideal_traffic(state, parts.mesh)
        peak = peak_flops(hardware.device_kind, config.model.get("dtype", "float32")) or 1e12
        work = parts.method.step_flops * config.data.global_batch
        compute = work / (mfu * peak * hardware.num_devices)
        rows = config.data.global_batch / (batch_shards(parts.mesh) * parts.method.together)
        remats = _RECOMPUTED if "remat" in config.model else ("none",)
        for remat, accumulate in itertools.product(remats, _ACCUMULATE):
            if rows % accumulate or (accumulate > 1 and parts.method.coupled):
                continue
            seconds = compute * (1 + _RECOMPUTED[remat])
            seconds += accumulate * _moved(traffic) / _LINK[hardware.platform]
            found.append(Candidate(mesh, remat, accumulate, seconds))
    return sorted(found, key=lambda one: (one.mesh["tensor"], one.seconds, one.mesh["fsdp"]))


def _moved(traffic: Traffic) -> int:
    """Bytes through a device's links: an all-reduce is a reduce-scatter and an all-gather."""
    return traffic.all_gather + traffic.reduce_scatter + 2 * traffic.all_reduce


def _meshes(num_devices: int) -> Iterator[dict[str, int]]:
    for tensor, fsdp in itertools.product(_TENSOR, _FSDP):
        if num_devices % (tensor * fsdp) == 0:
            data = num_devices // (tensor * fsdp)
            yield {"replica": 1, "data": data, "fsdp": fsdp, "tensor": tensor}
