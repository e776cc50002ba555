"""compare.html, compare.md and compare.json: several experiments side by side."""

import base64
import html
import os
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from maskjax.observe import metrics_file
from maskjax.observe.curves import line_chart
from maskjax.observe.files import write_atomic, write_json
from maskjax.observe.report import training_seconds
from maskjax.observe.report_scores import BEFORE, RAW, format_value
from maskjax.observe.report_style import page, section, sentence, table

NAME = "compare.html"
SHOWN = ("knn@20", "linear_probe")
_PICTURES = ("reconstruction",)
Row = Mapping[str, Any]


def write(out: str | os.PathLike, title: str, rows: Sequence[Row]) -> pathlib.Path:
    """Writes the three files into `out` and returns the path of the page.

    Args:
        out: folder.
        title: what was compared.
        rows: one for each experiment: "spec", "steps", "global_batch", "parameters",
            "step_flops", "folders" (one run for each seed) and "scores" (a list of the rows of
            scores.json for each run).
    """
    out = pathlib.Path(out)
    summary = [summarize(row) for row in rows]
    head, cells = cells_of(summary)
    write_json(out / "compare.json", {"title": title, "experiments": summary})
    write_atomic(out / "compare.md", markdown(head, cells))
    note = "Mean and sample standard deviation over the seeds. Step time is wall time between log"
    note += " lines, data and logging included; FLOPs are by formula."
    body = [
        f"<h1>{html.escape(title)}</h1>",
        section("Scores and cost", table(head, cells), sentence(note)),
        section(
            "Loss", sentence("Losses of different methods have different units."), *_curves(rows)
        ),
        section("Pictures", *_pictures(rows)),
    ]
    return write_atomic(out / NAME, page(title, "\n".join(body)))


def summarize(row: Row) -> dict[str, Any]:
    """Scores by name as {"trained" | "random init" | "raw pixels": [one a seed]}, and the cost."""
    found: dict[str, dict[str, list[float]]] = {}
    for run in row["scores"]:
        for score in run:
            kind = score["weights"] if score["weights"] in (BEFORE, RAW) else "trained"
            values = found.setdefault(score["name"], {}).setdefault(kind, [])
            values.append(float(score["value"]))
    seconds = [_seconds_per_step(folder) for folder in row["folders"]]
    facts = ("spec", "steps", "global_batch", "parameters", "step_flops")
    cost = {
        "examples": row["steps"] * row["global_batch"],
        "step_seconds": [second for second in seconds if second],
    }
    return {**{key: row[key] for key in facts}, **cost, "scores": found}


def cells_of(summary: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table; the baselines are rows of their own, raw pixels once."""
    names = [name for name in SHOWN if any(name in row["scores"] for row in summary)]
    head = ["experiment", *names, "steps", "images", "GFLOP / image", "ms / step", "parameters"]
    rows = []
    for row in summary:
        cost = [
            f"{row['steps']:,}",
            f"{row['examples']:,}",
            f"{row['step_flops'] / 1e9:.3g}" if row["step_flops"] else "?",
            f"{1000 * statistics.mean(row['step_seconds']):.3g}" if row["step_seconds"] else "?",
            f"{row['parameters']:,}",
        ]
        rows.append([row["spec"], *_shown(row, names, "trained"), *cost])
    for row in summary:
        label = f"{row['spec']}, {BEFORE}"
        rows.append([label, *_shown(row, names, BEFORE), "0", "0", "", "", ""])
    if any(RAW in kinds for row in summary for kinds in row["scores"].values()):
        rows.append([RAW, *_shown(summary[0], names, RAW), "", "", "", "", ""])
    return head, rows


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _shown(row: Mapping[str, Any], names: Sequence[str], kind: str) -> list[str]:
    return [spread(row["scores"].get(name, {}).get(kind, [])) for name in names]


def spread(values: Sequence[float]) -> str:
    """Accuracies as "81.2 ± 0.4 %", one alone without the spread, none as "-"."""
    if not values:
        return "-"
    mean = format_value(statistics.mean(values), "accuracy")
    if len(values) == 1:
        return mean
    return f"{mean.removesuffix(' %')} ± {100 * statistics.stdev(values):.1f} %"


def _seconds_per_step(folder: pathlib.Path) -> float:
    lines = metrics_file.read_metrics(pathlib.Path(folder) / metrics_file.NAME)
    lines = [line for line in lines if "loss" in line]
    steps = lines[-1]["step"] - lines[0]["step"] if lines else 0
    return training_seconds(lines) / steps if steps else 0.0


def _curves(rows: Sequence[Row]) -> list[str]:
    charts = []
    for row in rows:
        lines = metrics_file.read_metrics(pathlib.Path(row["folders"][0]) / metrics_file.NAME)
        steps, values = metrics_file.column(lines, "loss")
        if values:
            chart = line_chart(
                steps, values, x_label="step", y_label="loss", smooth=True, height=220
            )
            charts.append(f"<h3>{html.escape(row['spec'])}</h3><figure>{chart}</figure>")
    return charts


def _pictures(rows: Sequence[Row]) -> list[str]:
    figures = []
    for row in rows:
        folder = pathlib.Path(row["folders"][0]) / "pictures"
        for name in _PICTURES:
            path = folder / f"{name}.png"
            if path.is_file():
                data = base64.b64encode(path.read_bytes()).decode()
                title = html.escape(f"{row['spec']}: {name}")
                figures.append(
                    f"<h3>{title}</h3><figure><div class='wide'>"
                    f"<img src='data:image/png;base64,{data}' alt='{title}'></div></figure>"
                )
    return figures or [sentence("There are no pictures; the reconstruction evaluator makes them.")]
