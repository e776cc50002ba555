"""Several experiments on the same data, seeds and budget: `maskjax compare`.

Every training and every evaluation is a process of its own, through the usual commands, so that a
run of a comparison is a run like any other.
"""

import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from maskjax import build, data_parts
from maskjax.config import load_config
from maskjax.errors import UserError
from maskjax.evaluate.scores import read_scores
from maskjax.observe import comparison_page
from maskjax.observe.files import read_json, write_json
from maskjax.train import runtime, sharding
from maskjax.train.feed import to_devices

PLAN = "plan.json"
_TIMED_STEPS = 20


class Budget(NamedTuple):
    """How long each run is: `kind` "examples", "flops" or "minutes", and how many."""

    kind: str
    amount: float


@dataclasses.dataclass(frozen=True)
class Contestant:
    """One experiment of the comparison.

    Attributes:
        spec: as given, such as "mim/mae:demo".
        steps: what the budget allows.
        global_batch: images per step.
        parameters: number of trained values.
        step_flops: per image, by formula; 0 = unknown.
    """

    spec: str
    steps: int
    global_batch: int
    parameters: int
    step_flops: float

    @property
    def folder(self) -> str:
        """A file name made of the spec."""
        return re.sub(r"[^\w.-]+", "_", self.spec.removeprefix("configs/")).strip("_")


def parse_budget(text: str) -> Budget:
    """ "examples:64000" and the like.

    Raises:
        UserError: for anything else.
    """
    kind, _, number = text.partition(":")
    try:
        budget = Budget(kind, float(number))
    except ValueError:
        budget = Budget("", 0)
    if budget.kind not in ("examples", "flops", "minutes") or not budget.amount > 0:
        raise UserError(
            f"--budget={text}: write examples:N, flops:N or minutes:N with N more than 0"
        )
    return budget


def compare(
    specs: Sequence[str],
    seeds: Sequence[int],
    budget: Budget,
    evaluators: Sequence[str],
    out: str | os.PathLike,
    overrides: Sequence[str] = (),
) -> pathlib.Path:
    """Plans, trains and scores all runs, one after the other; returns the path of compare.html.

    Finished parts are not done again; steps planned before are kept, so that a measured step time
    does not change the plan of a comparison that goes on.

    Args:
        specs: experiments as for `load_config`.
        seeds: one run of each experiment for each.
        budget: the length of every run.
        evaluators: names, see `evaluate.evaluators`.
        out: folder of the comparison; made if missing.
        overrides: `--config.key=value`, for all experiments.

    Raises:
        UserError: if an experiment does not fit, before anything is trained; or a run fails.
    """
    out = pathlib.Path(out)
    contestants = _planned(specs, budget, out, overrides)
    total = len(contestants) * len(seeds)
    for number, (contestant, seed) in enumerate(
        ((c, s) for c in contestants for s in seeds), start=1
    ):
        workdir = out / contestant.folder / f"seed{seed}"
        print(f"[{number}/{total}] {contestant.spec}, seed {seed}: {workdir}", flush=True)
        _train_and_score(contestant, seed, workdir, evaluators, overrides)
    rows = [_row(contestant, seeds, out) for contestant in contestants]
    title = f"{len(rows)} experiments, {budget.kind} {budget.amount:g}, seeds {_listed(seeds)}"
    return comparison_page.write(out, title, rows)


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _planned(
    specs: Sequence[str], budget: Budget, out: pathlib.Path, overrides: Sequence[str]
) -> list[Contestant]:
    """The contestants, from plan.json where that is of the same question."""
    question = {"specs": list(specs), "budget": list(budget), "overrides": list(overrides)}
    path = out / PLAN
    if path.is_file():
        known = read_json(path)
        if known.get("question") != question:
            raise UserError(f"--out={out}: holds a comparison of other experiments or budget")
        return [Contestant(**fields) for fields in known["contestants"]]
    contestants = [_plan(spec, budget, overrides) for spec in specs]
    names = [contestant.folder for contestant in contestants]
    if len(set(names)) < len(names):
        raise UserError(f"--configs: two experiments would share the folder {max(names)}")
    out.mkdir(parents=True, exist_ok=True)
    found = [dataclasses.asdict(contestant) for contestant in contestants]
    write_json(path, {"question": question, "contestants": found})
    return contestants


def _plan(spec: str, budget: Budget, overrides: Sequence[str]) -> Contestant:
    config, _ = load_config(spec, overrides)
    build.check_settings(config)
    source = data_parts.data_source(config, "train")
    parts = build.experiment(config, len(source) * config.data.views)
    parts.check_step()
    flops, batch = parts.method.step_flops, config.data.global_batch
    if budget.kind == "flops" and not flops:
        raise UserError(f"--configs: {spec} does not say its FLOPs; take another kind of budget")
    if budget.kind == "minutes":
        steps = 60 * budget.amount / _seconds_per_step(config, parts)
    else:
        steps = budget.amount / batch / (flops if budget.kind == "flops" else 1)
    if steps < 1:
        raise UserError(f"--budget: {spec} needs more for a single step of {batch} images")
    parameters = sum(leaf.size for leaf in jax.tree.leaves(parts.abstract_state.params))
    return Contestant(spec, int(steps), batch, parameters, float(flops))


def _seconds_per_step(config: ConfigDict, parts: build.Experiment) -> float:
    """Mean over some steps on a batch that stays the same, after a first one that compiles."""
    runtime.enable_compile_cache()
    step, state = parts.step(), parts.init()
    shapes = data_parts.example_batch(config, config.data.global_batch)
    batch = to_devices(build.zeros(shapes), sharding.batch_sharding(parts.mesh))
    began = 0.0
    for index in range(_TIMED_STEPS + 1):
        state, _ = step(state, batch, parts.method.static(0))
        if index == 0:
            jax.block_until_ready(state)
            began = time.perf_counter()
    jax.block_until_ready(state)
    return (time.perf_counter() - began) / _TIMED_STEPS


def _train_and_score(
    contestant: Contestant,
    seed: int,
    workdir: pathlib.Path,
    evaluators: Sequence[str],
    overrides: Sequence[str],
):
    warmup = load_config(contestant.spec, overrides)[0]
    share = warmup.optim.warmup_steps / warmup.train.steps if warmup.train.steps else 0.0
    length = [f"--config.train.steps={contestant.steps}", "--config.train.epochs=0.0"]
    if share:  # the same share of a run of another length
        length.append(f"--config.optim.warmup_steps={round(share * contestant.steps)}")
    arguments = [*overrides, *length, f"--config.seed={seed}", "--config.tensorboard=False"]
    where = f"--workdir={workdir}"
    _command("train", f"--config={contestant.spec}", where, *arguments)
    if not read_scores(workdir):
        _command("evaluate", where, f"--evaluators={','.join(evaluators)}")


def _command(name: str, *arguments: str):
    """Runs `maskjax NAME ...`; its output goes through."""
    code = subprocess.call([sys.executable, "-m", "maskjax", name, *arguments])
    if code:
        raise UserError(f"maskjax {name} {' '.join(arguments)} ended with code {code}")


def _row(contestant: Contestant, seeds: Sequence[int], out: pathlib.Path) -> dict:
    """What the page shows of one experiment."""
    folders = [out / contestant.folder / f"seed{seed}" for seed in seeds]
    scores = [[dataclasses.asdict(s) for s in read_scores(folder)] for folder in folders]
    return {**dataclasses.asdict(contestant), "folders": folders, "scores": scores}
