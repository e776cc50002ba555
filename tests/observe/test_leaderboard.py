"""`maskjax leaderboard`: rows, order, cost, charts, and what is refused."""

import json

import pytest
import runs

from maskjax.errors import UserError
from maskjax.evaluate.scores import RANDOM_INIT, Score, write_scores
from maskjax.observe import leaderboard, run_files
from maskjax.observe.metrics_file import encode_line


def make_run(folder, values, *, flops=1e9, during=()):
    """A run of 100 steps of 64 images, two seconds each, with linear probes at {step: value}."""
    config = {"method": "mim.mae", "data": {"global_batch": 64}}
    run_files.write_config(folder, config, {})
    run_files.write_facts(folder, {"parameters": 1234, "step_flops_per_image": flops})
    lines = [encode_line(step, 2.0 * step, {"loss": 1.0}) for step in range(0, 101, 10)]
    lines += [encode_line(step, 2.0 * step, {"evaluate/top1": v}) for step, v in during]
    (folder / "metrics.jsonl").write_text("".join(lines))
    text, counts = "logistic regression", (10, 5)
    scores = [Score("linear_probe", 0.1, text, *counts, weights=RANDOM_INIT)]
    for step, value in values.items():
        weights = f"checkpoint step {step}"
        scores.append(Score("linear_probe", value, text, *counts, weights=weights, step=step))
    write_scores(folder, scores)
    return folder


def test_rows_are_the_latest_scores_best_first_with_their_cost(tmp_path, capsys):
    make_run(tmp_path / "a/seed0", {50: 0.5, 100: 0.6})
    make_run(tmp_path / "b", {100: 0.7}, flops=0, during=[(50, 0.25), (100, 0.5)])
    out = tmp_path / "board"
    code = runs.maskjax("leaderboard", "--runs", tmp_path, f"--out={out}")
    assert code == 0
    printed = capsys.readouterr().out.splitlines()
    costs = ["images", "PFLOPs", "minutes", "parameters"]
    assert printed[0].split() == ["run", "method", "top1", "linear_probe", *costs]
    (first, _, *best), (second, _, *other) = (line.split() for line in printed[1:3])
    assert first.endswith("b") and best == ["50.0", "%", "70.0", "%", "6,400", "-", "3.33", "1,234"]
    assert second.endswith("seed0") and other == [
        "-",
        "60.0",
        "%",
        "6,400",
        "0.0064",
        "3.33",
        "1,234",
    ]
    assert (out / "leaderboard.md").read_text().count("\n") == 4
    found = json.loads((out / "leaderboard.json").read_text())["runs"]
    points = next(r for r in found if r["folder"].endswith("seed0"))["scores"]["linear_probe"]
    found = [(p["step"], p["value"], p["examples"]) for p in points]
    assert found == [(50, 0.5, 3200), (100, 0.6, 6400)]
    page = (out / leaderboard.NAME).read_text()
    # top1 over images and minutes; linear_probe over images, FLOPs and minutes.
    assert page.count('class="chart"') == 5 and "http" not in page.replace("http-equiv", "")
    assert "linear_probe: logistic regression." in page


def test_scores_can_be_chosen_and_losses_rank_upwards(tmp_path):
    found = []
    for name, value in (("worse", 2.0), ("better", 1.0)):
        folder = make_run(tmp_path / name, {})
        loss = Score(
            "test_loss", value, "x", 0, 5, weights="checkpoint step 100", kind="loss", step=100
        )
        write_scores(folder, [loss])
        found.append(leaderboard.read_run(folder))
    _, rows = leaderboard.cells_of(found, ["test_loss"])
    assert [row[0].rpartition("/")[2] for row in rows] == ["better", "worse"]
    with pytest.raises(UserError, match="no run has 'top5'; there are: test_loss"):
        leaderboard.write(found, tmp_path / "out", ["top5"])


def test_what_is_no_run_is_named(tmp_path):
    with pytest.raises(UserError, match="is no folder"):
        leaderboard.find_runs([tmp_path / "none"])
    with pytest.raises(UserError, match="there is no run in"):
        leaderboard.find_runs([tmp_path])
    folder = make_run(tmp_path / "run", {})
    with pytest.raises(UserError, match="no run has scores yet"):
        leaderboard.write([leaderboard.read_run(folder)], tmp_path / "out")
