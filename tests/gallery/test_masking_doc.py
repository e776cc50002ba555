"""docs/masking.md: its examples run, in order, and its tables name everything that is exported."""

import re
from pathlib import Path

import jax

from maskjax import masking

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "masking.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.S)


def test_the_examples_run_in_order():
    names = {}
    for block in BLOCKS:
        exec(compile(block, "docs/masking.md", "exec"), names)
    assert len(BLOCKS) >= 8
    assert names["visible"].shape == (8, 49, 768)
    assert names["raster"].shape == (8, 196, 768)
    assert names["split"].num_visible in names["counts"]
    assert [example["visible_ids"].shape for example in names["batch"]] == [(118,)] * 4
    assert isinstance(names["on_device"], masking.TokenSplit)
    assert bool(jax.numpy.isfinite(names["loss"]))


def test_everything_exported_is_named():
    assert [name for name in masking.__all__ if not re.search(rf"\b{name}\b", TEXT)] == []


def test_no_example_is_long():
    for block in BLOCKS:
        assert len(block.strip().splitlines()) <= 18
        assert max(map(len, block.splitlines())) <= 105
