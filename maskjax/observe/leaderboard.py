"""Many runs side by side: a table of scores and cost, and each score over what it cost."""

import html
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from maskjax.errors import UserError
from maskjax.observe import metrics_file, run_files
from maskjax.observe.curves import points_chart
from maskjax.observe.files import read_json, write_atomic, write_json
from maskjax.observe.report import training_seconds
from maskjax.observe.report_scores import BEFORE, RAW, Row, format_value, read_rows
from maskjax.observe.report_style import page, section, sentence, table

NAME = "leaderboard.html"
SCORES = "scores.json"
# Shown by default, in this order, where any run has them.
USUAL = ("top1", "top1_ema", "linear_probe", "mae_probe", "knn@20", "low_shot@5")
COSTS = ("examples", "PFLOPs", "minutes")


class Point(NamedTuple):
    """A score at a training step, with what the run had cost until then; nan = unknown."""

    step: int
    value: float
    kind: str
    protocol: str
    examples: float
    pflops: float
    minutes: float


class Run(NamedTuple):
    """One run: its folder, what it trained, its size and its scores by name, in order of steps."""

    folder: str
    method: str
    parameters: int
    scores: dict[str, list[Point]]

    def last(self, name: str) -> Point | None:
        """The score at the latest step."""
        return self.scores[name][-1] if self.scores.get(name) else None


def find_runs(folders: Iterable[str | os.PathLike]) -> list[pathlib.Path]:
    """Folders of runs among and below the given ones, each once.

    Raises:
        UserError: a folder is not there, or has no run in it.
    """
    found: dict[pathlib.Path, None] = {}
    for folder in map(pathlib.Path, folders):
        if not folder.is_dir():
            raise UserError(f"--runs: {folder} is no folder")
        below = sorted(path.parent for path in folder.rglob(run_files.CONFIG))
        runs = [path for path in below if (path / run_files.OVERRIDES).is_file()]
        if not runs:
            raise UserError(f"--runs: there is no run in {folder} (a folder with config.json)")
        found |= dict.fromkeys(runs)
    return list(found)


def read_run(workdir: pathlib.Path) -> Run:
    """What a run's files say of it; scores of untrained networks and raw pixels are left out.

    Raises:
        UserError: a file cannot be read.
    """
    config = run_files.read_config(workdir)
    facts = _mapping(workdir / run_files.FACTS)
    lines = metrics_file.read_metrics(workdir / metrics_file.NAME)
    cost = _Cost(lines, config["data"]["global_batch"], facts.get("step_flops_per_image") or 0.0)
    scores: dict[str, dict[int, Point]] = {}
    for name, step, row in _scores(lines, _mapping(workdir / SCORES)):
        scores.setdefault(name, {})[step] = Point(step, *row, *cost.until(step))
    ordered = {name: [found[s] for s in sorted(found)] for name, found in scores.items()}
    return Run(str(workdir), config["method"], int(facts.get("parameters") or 0), ordered)


def _scores(
    lines: Sequence[Mapping[str, float]], stored: Mapping[str, Any]
) -> Iterator[tuple[str, int, tuple[float, str, str]]]:
    """(name, step, (value, kind, protocol)); those of `maskjax evaluate` come last and replace."""
    for line in lines:
        for key, value in line.items():
            if key.startswith("evaluate/"):
                name = key.removeprefix("evaluate/")
                kind = "accuracy" if 0 <= value <= 1 and "loss" not in name else "number"
                yield name, int(line["step"]), (value, kind, "")
    for row in read_rows(stored):
        if row.weights not in (RAW, BEFORE):
            yield _name(row), row.step, (row.value, row.kind, row.protocol)


def _name(row: Row) -> str:
    return f"{row.name}_ema" if "average" in row.weights else row.name


class _Cost:
    """What a run had cost until a step."""

    def __init__(self, lines: Sequence[Mapping[str, float]], batch: int, flops: float):
        self._lines = [line for line in lines if "loss" in line]
        self._batch, self._flops = batch, flops

    def until(self, step: int) -> tuple[float, float, float]:
        """(images seen, PFLOPs by formula, minutes between log lines); nan = unknown."""
        examples = float(step * self._batch)
        pflops = examples * self._flops / 1e15 if self._flops else float("nan")
        seconds = training_seconds([line for line in self._lines if line["step"] <= step])
        return examples, pflops, seconds / 60 if seconds else float("nan")


def write(
    runs: Sequence[Run], out: str | os.PathLike, names: Sequence[str] = ()
) -> tuple[pathlib.Path, str]:
    """Writes leaderboard.html, .md and .json into a folder; (path of the page, the table).

    Args:
        runs: as of `read_run`.
        out: folder; made if missing.
        names: scores to show; () = those of `USUAL` that any run has.

    Raises:
        UserError: no run has one of the names, or any score.
    """
    out, known = pathlib.Path(out), {name for run in runs for name in run.scores}
    if missing := [name for name in names if name not in known]:
        there = ", ".join(sorted(known)) or "none; maskjax evaluate makes them"
        raise UserError(f"--scores: no run has {missing[0]!r}; there are: {there}")
    shown = list(names) or [name for name in USUAL if name in known] or sorted(known)[:3]
    if not shown:
        raise UserError("--runs: no run has scores yet; maskjax evaluate makes them")
    head, rows = cells_of(runs, shown)
    text = _columns([head, *rows])
    plain = [run._asdict() | {"scores": _plain(run.scores)} for run in runs]
    write_json(out / "leaderboard.json", {"scores": shown, "runs": plain})
    lines = [head, ["---"] * len(head), *rows]
    write_atomic(out / "leaderboard.md", "".join(f"| {' | '.join(r)} |\n" for r in lines))
    note = "Best first. Minutes lie between log lines, without pauses; FLOPs are by formula."
    body = [
        "<h1>Leaderboard</h1>",
        section("Runs", table(head, rows), sentence(note), *_protocols(runs, shown)),
        *(section(name, *_charts(runs, name)) for name in shown),
    ]
    return write_atomic(out / NAME, page("Leaderboard", "\n".join(body))), text


def cells_of(runs: Sequence[Run], names: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table, the best of the first score first; runs without it last."""

    def rank(run: Run) -> tuple[bool, float]:
        point = run.last(names[0])
        falls = point is not None and point.kind == "loss"
        return point is None, 0.0 if point is None else (1 if falls else -1) * point.value

    head = ["run", "method", *names, "images", "PFLOPs", "minutes", "parameters"]
    rows = []
    for run in sorted(runs, key=rank):
        points = [run.last(name) for name in names]
        cells = [format_value(p.value, p.kind) if p else "-" for p in points]
        last = max((p for p in points if p), key=lambda p: p.step, default=None)
        costs = [_number(x) for x in last[-3:]] if last else ["-"] * 3
        rows.append([run.folder, run.method, *cells, *costs, f"{run.parameters:,}"])
    return head, rows


def _charts(runs: Sequence[Run], name: str) -> list[str]:
    """The score over images, FLOPs and minutes; a chart without points is left out."""
    charts = []
    for index, cost in enumerate(COSTS):
        series = {}
        for run in runs:
            points = [(p[-3 + index], p.value) for p in run.scores.get(name, ())]
            if points := [(x, y) for x, y in points if x == x]:
                series[run.folder] = points
        if series:
            charts.append(f"<figure>{points_chart(series, x_label=cost, y_label=name)}</figure>")
    return charts


def _protocols(runs: Sequence[Run], names: Sequence[str]) -> list[str]:
    """The protocols of each score; several of one score do not compare, and are all shown."""
    found = []
    for name in names:
        texts = {p.protocol for run in runs if (p := run.last(name)) and p.protocol}
        found += [sentence(f"{name}: {html.unescape(text)}.") for text in sorted(texts)]
    return found


def _columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _number(value: float) -> str:
    return "-" if value != value else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _plain(scores: Mapping[str, Sequence[Point]]) -> dict[str, list[dict]]:
    return {name: [point._asdict() for point in points] for name, points in scores.items()}


def _mapping(path: pathlib.Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
