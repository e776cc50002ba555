"""docs/weights.md: what it shows is run, in order, on a small run and small official weights."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import weights_doc
from runs import maskjax

from maskjax.interop.layouts import FORMATS
from maskjax.nn.teachers import teacher_names

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return weights_doc.prepare(tmp_path_factory.mktemp("doc"))


def test_the_commands_and_the_code_without_torch(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    for argv in weights_doc.commands():
        assert maskjax(*argv) == 0, (argv, capsys.readouterr().err)
    names = {"SIZE": (8, 8, 1)}
    blocks = [block for block in weights_doc.python() if not weights_doc.needs_torch(block)]
    for block in blocks:
        exec(compile(block, "docs/weights.md", "exec"), names)
    assert len(blocks) == 2
    assert names["features"]["tokens"].shape == (4, 16, 32)
    assert names["report"].geometry == replace(names["geometry"], decoder_dim=0)
    assert jax.tree.leaves(names["params"])[0].dtype == np.float32


def test_every_format_is_listed():
    assert [name for name in FORMATS if f"`{name}`" not in weights_doc.TEXT] == []
    assert "clip_b16" in teacher_names()
