"""docs/data.md names sources that exist."""

import re
from pathlib import Path

from maskjax.data.source import FORMS
from maskjax.data.sources.formats import EXTENSIONS
from maskjax.data.sources.row_groups import CACHE_BYTES

TEXT = (Path(__file__).parents[2] / "docs/data.md").read_text()


def test_kinds_in_commands_exist():
    specs = re.findall(r"--config\.data\.path='?([a-z][^\s'`=]+)", TEXT)
    assert len(specs) > 5
    assert {spec.partition(":")[0] for spec in specs} <= FORMS.keys()


def test_table_and_extensions():
    rows = re.findall(r"^\| `(\w+):", TEXT, re.MULTILINE)
    assert {"folder", "tfds", "wds", "parquet", "array_record", "npz"} <= set(rows) <= FORMS.keys()
    assert ", ".join(EXTENSIONS) in " ".join(TEXT.split())


def test_figures():
    assert f"at most {CACHE_BYTES // 2**20} MB in each data process" in TEXT
