"""`maskjax compare`: budgets become steps, finished parts are kept, the page shows all."""

import json

import pytest
import runs

from maskjax import comparison
from maskjax.errors import UserError
from maskjax.observe import comparison_page

TINY = str(runs.ROOT / "configs/mim/mae.py") + ":tiny"


@pytest.mark.parametrize(
    "text", ["", "examples", "examples:", "examples:0", "examples:-3", "hours:2", "flops:many"]
)
def test_a_budget_that_is_none(text):
    with pytest.raises(UserError, match=r"--budget=.*examples:N, flops:N or minutes:N"):
        comparison.parse_budget(text)


def test_budgets_become_steps():
    plan = lambda text: comparison._plan(TINY, comparison.parse_budget(text), ())  # noqa: E731
    by_examples = plan("examples:6400")
    assert (by_examples.steps, by_examples.global_batch) == (100, 64)
    flops = by_examples.step_flops
    assert plan(f"flops:{flops * 64 * 7.5}").steps == 7
    with pytest.raises(UserError, match="needs more for a single step of 64 images"):
        plan("examples:63")


@pytest.mark.slow
def test_two_experiments_from_the_command_and_again(tmp_path, capfd):
    other = str(runs.ROOT / "configs/mim/colormae.py") + ":tiny"
    command = ("compare", f"--configs={TINY},{other}", "--budget=examples:384", f"--out={tmp_path}")
    command += ("--evaluators=knn,reconstruction",)
    assert runs.maskjax(*command) == 0
    found = json.loads((tmp_path / "compare.json").read_text())["experiments"]
    assert [row["steps"] for row in found] == [6, 6]
    assert all(len(row["scores"]["knn@20"]["trained"]) == 1 for row in found)
    page = (tmp_path / comparison_page.NAME).read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "http:" not in page
    assert "https:" not in page
    table = (tmp_path / "compare.md").read_text()
    assert table.count("random init") == 2
    assert table.count("raw pixels") == 1
    before = capfd.readouterr().out
    assert runs.maskjax(*command) == 0
    again = capfd.readouterr().out
    assert "already trained to step 6" in again
    assert "knn@20, checkpoint" in before
    assert "knn@20, checkpoint" not in again
    assert runs.maskjax(*command, "--config.train.log_every=3") == 2
    assert "holds a comparison of other experiments" in capfd.readouterr().err


ROW = {
    "spec": "a<b>",
    "steps": 10,
    "global_batch": 4,
    "parameters": 1234,
    "step_flops": 2e9,
    "folders": ["none1", "none2"],
    "scores": [
        [
            {"name": "knn@20", "value": value, "weights": weights}
            for value, weights in ((0.5 + shift, "checkpoint step 10"), (0.25, "random init"))
        ]
        for shift in (0.0, 0.02)
    ],
}


def test_the_table_has_means_and_spreads_and_escapes_names(tmp_path):
    page = comparison_page.write(tmp_path, "T", [ROW])
    text = page.with_suffix(".md").read_text()
    assert "| a<b> | 51.0 ± 1.4 % | 10 | 40 | 2 | ? | 1,234 |" in text
    assert "| a<b>, random init | 25.0 ± 0.0 % |" in text
    assert "a&lt;b&gt;" in page.read_text()
    assert comparison_page.spread([0.5]) == "50.0 %"
    assert comparison_page.spread([]) == "-"
