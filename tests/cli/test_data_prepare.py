"""`maskjax data-prepare`: shards, a second call that finds them, wrong arguments."""

import re

from runs import maskjax

from maskjax.data.source import resolve


def test_writes_goes_on_and_tells(tmp_path, capsys):
    arguments = ("data-prepare", "--data=photos", f"--out={tmp_path}", "--short-side=64")
    arguments += ("--per-shard=9", "--workers=0")
    assert maskjax(*arguments) == 0
    said = capsys.readouterr().out
    assert re.search(r"9/18 images \(50 %\)  \S+ images/s  ETA ", said)
    assert re.search(r"18/18 images \(100 %\)  \S+ images/s  done", said)
    assert re.search(r"18 images \(0 copied .*, 0 left out\), \S+ [kM]B -> \S+ kB, \S+ times", said)
    assert len(resolve(f"wds:{tmp_path}", "train")) == 18
    assert maskjax(*arguments) == 0
    again = capsys.readouterr().out.splitlines()
    assert again == said.splitlines()[-2:]


def test_wrong_arguments(tmp_path, capsys):
    arguments = ("data-prepare", "--data=photos", f"--out={tmp_path}")
    assert maskjax(*arguments, "--format=zip") == 2
    assert "unknown format 'zip'" in capsys.readouterr().err
