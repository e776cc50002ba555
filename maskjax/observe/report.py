"""report.html of a run: one file that holds everything, for a browser, a phone or an e-mail.

Reads the files of the run directory and nothing else; a part whose file is missing or broken is
replaced by a sentence that says so.
"""

import base64
import html
import itertools
import json
import os
import pathlib
import statistics
from collections.abc import Mapping
from typing import Any

from maskjax.errors import UserError
from maskjax.observe import metrics_file, report_scores, run_files
from maskjax.observe.curves import line_chart
from maskjax.observe.files import read_json, write_atomic
from maskjax.observe.goodput import goodput_text
from maskjax.observe.progress import format_duration
from maskjax.observe.report_style import folded, page, section, sentence, table

NAME = "report.html"
SCORES, PICTURES, COVERAGE = "scores.json", "pictures", "mask_coverage"
_CAPTIONS = {
    "reconstruction": "Per image: the original, what the encoder saw, the decoder's prediction of"
    " every patch (no loss asks for the visible ones), and that prediction with the visible patches"
    " put back.",
    "token_map": "Per image: the original, what the encoder saw, the token that the frozen"
    " tokenizer gives every patch, and the one that is predicted where the patch was hidden.",
    "difficulty": "Per image: the original, what the encoder saw, how hard the teacher expects"
    " every patch to be, and how wrong the prediction was where the patch was hidden.",
    "groups": "Per image: the original, the patches that it shows, the mixed image that the encoder"
    " saw, whose each place is, and the prediction with the shown patches put back.",
    "choices": "Per image: the original, what the model saw, the hidden patches where it would put"
    " them, and which of them are in their place.",
    "layers": "How sparse and how compressed the tokens are, layer by layer.",
    COVERAGE: "How often each patch position was hidden. Even colours mean that the mask generator"
    " favours no place.",
}


def write_report(workdir: str | os.PathLike) -> pathlib.Path:
    """Writes report.html into the folder of a run and returns its path.

    Uses config.json, overrides.json, run.json, metrics.jsonl, scores.json and pictures/*.png, as
    far as they are there.

    Raises:
        UserError: if the folder does not exist.
    """
    workdir = pathlib.Path(workdir)
    if not workdir.is_dir():
        raise UserError(f"--workdir={workdir}: no such folder, so there is nothing to report on")
    config = _load(workdir / run_files.CONFIG)
    lines = metrics_file.read_metrics(workdir / metrics_file.NAME)
    facts = _load(workdir / run_files.FACTS)
    title = f"{config.get('method', 'A run')}: {workdir.resolve().name}"
    body = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p>{html.escape(summary(config, lines, facts))}</p>",
        *report_scores.sections(_load(workdir / SCORES)),
        section("Training", *_curves(lines), *_goodput(lines)),
        *_pictures(workdir / PICTURES),
        section("Configuration", *_configuration(workdir, config)),
    ]
    return write_atomic(workdir / NAME, page(title, "\n".join(body)))


def summary(
    config: Mapping[str, Any], lines: list[dict[str, float]], facts: Mapping[str, Any]
) -> str:
    """One line: model, steps, images seen, time, device; what is not known is left out."""
    parts = []
    model, data = _mapping(config, "model"), _mapping(config, "data")
    if "path" in data:
        parts.append(f"trained on {data['path']}")
    if "mask_ratio" in model:
        parts.append(f"mask ratio {model['mask_ratio']}")
    if lines:
        steps = int(max(line["step"] for line in lines))
        parts.append(f"{steps:,} steps")
        if isinstance(data.get("global_batch"), int):
            parts.append(f"{steps * data['global_batch']:,} images seen")
        if seconds := training_seconds(lines):
            parts.append(f"about {format_duration(seconds)}")
    if facts.get("device"):
        parts.append(f"on {facts['device']}")
    return " · ".join(parts) or "Nothing is known about this run yet."


def training_seconds(lines: list[dict[str, float]]) -> float:
    """Time between the first and the last line, without the pauses before a resume.

    A gap counts as a pause if it is over a minute and over 20 times the usual one; 0 for fewer
    than two lines.
    """
    times = [line["time"] for line in lines if "time" in line]
    gaps = [max(0.0, b - a) for a, b in itertools.pairwise(times)]
    if not gaps:
        return 0.0
    usual = statistics.median(gaps)
    return sum(gap for gap in gaps if gap <= max(60.0, 20 * usual))


def _load(path: pathlib.Path) -> dict[str, Any]:
    """The object in a JSON file, {} if it is missing or broken."""
    try:
        value = read_json(path)
    except UserError:
        return {}
    return value if isinstance(value, dict) else {}


def _mapping(tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = tree.get(key)
    return value if isinstance(value, dict) else {}


def _curves(lines: list[dict[str, float]]) -> list[str]:
    charts = []
    for key, label, height, smooth in (
        ("loss", "loss", 320, True),
        ("lr", "learning rate", 190, False),
    ):
        steps, values = metrics_file.column(lines, key)
        if values:
            chart = line_chart(
                steps, values, x_label="step", y_label=label, height=height, smooth=smooth
            )
            last = f"Last value {values[-1]:.4g} at step {steps[-1]:,}."
            note = (
                f"Faint: as logged. Strong: mean of neighbouring values. {last}" if smooth else last
            )
            charts.append(f"<figure>{chart}<figcaption>{html.escape(note)}</figcaption></figure>")
    if not charts:
        return [sentence("No loss has been logged yet (metrics.jsonl is missing or empty).")]
    return charts


def _goodput(lines: list[dict[str, float]]) -> list[str]:
    """Where the time of the last start went."""
    text = goodput_text(next((x for x in reversed(lines) if "goodput/steps" in x), {}))
    return [sentence(f"Time since the run was last started: {text}.")] if text else []


def _pictures(folder: pathlib.Path) -> list[str]:
    files = sorted(folder.glob("*.png")) if folder.is_dir() else []
    coverage = [path for path in files if path.stem.startswith(COVERAGE)]
    others = [path for path in files if path not in coverage]
    missing = sentence("There are no pictures yet; the reconstruction evaluator makes them.")
    parts = [section("Pictures", *(map(_figure, others) if others else [missing]))]
    if coverage:
        parts.append(section("Mask coverage", *map(_figure, coverage)))
    return parts


def _figure(path: pathlib.Path) -> str:
    name = path.stem.replace("_", " ")
    caption = _CAPTIONS.get(path.stem, name)
    try:
        content = path.read_bytes()
    except OSError as error:
        return sentence(f"{path.name} cannot be read ({error}).")
    # On a phone a large sheet keeps a size at which it can be read, and scrolls sideways.
    large = ' class="large"' if int.from_bytes(content[16:20]) > 900 else ""
    data = base64.b64encode(content).decode()
    image = f'<img{large} src="data:image/png;base64,{data}" alt="{html.escape(name)}">'
    note = f"<figcaption>{html.escape(caption)}</figcaption>"
    return f'<figure><div class="wide">{image}</div>{note}</figure>'


def _configuration(workdir: pathlib.Path, config: Mapping[str, Any]) -> list[str]:
    overrides = _load(workdir / run_files.OVERRIDES)
    parts = []
    if overrides:
        rows = [[key, _plain(value)] for key, value in sorted(overrides.items())]
        parts += [table(["changed on the command line", "value"], rows)]
    else:
        parts += [sentence("Nothing was changed on the command line.")]
    if not config:
        return [*parts, sentence("The resolved config (config.json) is missing.")]
    text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False)
    return [*parts, folded("The whole resolved config", f"<pre>{html.escape(text)}</pre>")]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
