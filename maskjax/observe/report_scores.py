"""The score part of the report: each score after training beside its two baselines."""

import html
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from maskjax.observe.files import as_float
from maskjax.observe.report_style import folded, section, sentence, table

BEFORE, RAW = "random init", "raw pixels"
_HEADLINES = ("top1", "knn@20", "linear_probe")
_TITLES = {
    "knn": "k nearest neighbours",
    "linear_probe": "linear probe",
    "top1": "top-1 accuracy of the classifier",
}


class Row(NamedTuple):
    """One score of scores.json, as far as it could be read."""

    name: str
    value: float
    protocol: str
    train_count: int
    test_count: int
    pool: str
    weights: str
    kind: str
    step: int


class Comparison(NamedTuple):
    """One score, with the same pool and protocol, for three kinds of features."""

    name: str
    pool: str
    raw: Row | None
    before: Row | None
    after: Row | None

    @property
    def rows(self) -> list[Row]:
        """Those that exist, baselines first."""
        return [row for row in (self.raw, self.before, self.after) if row]


def read_rows(scores: Mapping[str, Any]) -> list[Row]:
    """The rows of scores.json ({key: row}); what is not a row is left out."""
    rows = []
    for entry in scores.values():
        try:
            value = as_float(entry["value"])
            counts = (int(entry.get("train_count") or 0), int(entry.get("test_count") or 0))
            texts = {key: str(entry.get(key) or "") for key in ("protocol", "pool", "kind")}
            step = int(entry.get("step") or 0)
            row = Row(
                str(entry["name"]),
                value,
                texts["protocol"],
                *counts,
                texts["pool"],
                str(entry["weights"]),
                texts["kind"],
                step,
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            continue
        rows.append(row)
    return rows


def comparisons(rows: Iterable[Row]) -> list[Comparison]:
    """Rows side by side: raw pixels, random init, and the latest checkpoint; by name and pool.

    Raw pixels have no pool; they stand beside every pool of the same score.
    """
    rows = list(rows)
    raw = {row.name: row for row in rows if row.weights == RAW}
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.weights != RAW:
            groups.setdefault((row.name, row.pool), []).append(row)
    found = []
    for (name, pool), group in sorted(groups.items(), key=_natural):
        before = next((row for row in group if row.weights == BEFORE), None)
        trained = [row for row in group if row.weights != BEFORE]
        after = max(trained, key=lambda row: row.step, default=None)
        found.append(Comparison(name, pool, raw.get(name), before, after))
    alone = raw.keys() - {name for name, _ in groups}
    return found + [Comparison(name, "", raw[name], None, None) for name in sorted(alone)]


def _natural(item: tuple[tuple[str, str], Any]) -> tuple:
    """Sorts knn@20 before knn@100."""
    (name, pool), _ = item
    kind, _, count = name.partition("@")
    return kind, int(count) if count.isdigit() else 0, name, pool


def sections(scores: Mapping[str, Any]) -> list[str]:
    """HTML: headline tiles, bars of the main scores, and a folded table of all of them."""
    found = comparisons(read_rows(scores))
    if not found:
        return [section("Scores", sentence("No scores yet; maskjax evaluate makes them."))]
    accuracies = [c for c in found if c.rows[-1].kind == "accuracy"]
    main = [c for c in accuracies if c.name in _HEADLINES] or accuracies[:2]
    tiles = "".join(_tile(c) for c in main if c.after)
    parts = [_bars(c) for c in main]
    parts.append(folded("All scores and how they were measured", _all_scores(found)))
    return [f'<div class="tiles">{tiles}</div>' if tiles else "", section("Scores", *parts)]


def format_value(value: float, kind: str) -> str:
    """An accuracy as percent, anything else with four digits."""
    return f"{100 * value:.1f} %" if kind == "accuracy" else f"{value:.4g}"


def _title(name: str) -> str:
    kind, _, count = name.partition("@")
    return f"{_TITLES.get(kind, kind)}{f', k = {count}' if count else ''}"


def _tile(c: Comparison) -> str:
    value = format_value(c.after.value, c.after.kind)
    before = format_value(c.before.value, c.before.kind) if c.before else ""
    was = f"<small>{html.escape(before)} → </small>" if before else ""
    context = [f"from {BEFORE}" if before else ""]
    context += [f"{RAW} {format_value(c.raw.value, c.raw.kind)}" if c.raw else ""]
    note = " · ".join(filter(None, context))
    return (
        f'<div class="tile"><div class="soft">{html.escape(_title(c.name))}</div>'
        f'<div class="value">{was}{html.escape(value)}</div>'
        f'<div class="soft">{html.escape(note)}</div></div>'
    )


def _bars(c: Comparison) -> str:
    bars = "".join(
        f'<div class="bar"><span>{html.escape(row.weights)}</span><span class="track">'
        f'<i class="{kind}" style="width:{100 * min(max(row.value, 0), 1):.1f}%"></i></span>'
        f"<b>{html.escape(format_value(row.value, row.kind))}</b></div>"
        for kind, row in (("raw", c.raw), ("before", c.before), ("after", c.after))
        if row
    )
    row = c.after or c.rows[-1]
    counts = f"{row.train_count:,} train and {row.test_count:,} test images"
    note = f"{row.protocol}; {counts}." if row.protocol else f"{counts}."
    if c.raw and c.raw.protocol and c.raw is not row:
        note += f" Raw pixels: {c.raw.protocol}."
    pool = f" ({c.pool})" if c.pool else ""
    return f"<h3>{html.escape(_title(c.name) + pool)}</h3>{bars}{sentence(note)}"


def _all_scores(found: list[Comparison]) -> str:
    names = {c.after.weights for c in found if c.after}
    rows = []
    for c in found:
        last = c.after or c.rows[-1]
        cells = [format_value(row.value, row.kind) if row else "" for row in c[2:]]
        if c.after and len(names) > 1:
            cells[2] += f" ({c.after.weights})"
        counts = f"{last.train_count:,} / {last.test_count:,}"
        rows.append([c.name, c.pool, *cells, counts, last.protocol])
    trained = names.pop() if len(names) == 1 else "trained"
    return table(["score", "pool", RAW, BEFORE, trained, "train / test", "protocol"], rows)
