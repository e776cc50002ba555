"""The sheet, the page and the command."""

import base64
import hashlib
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from maskjax.cli.main import main
from maskjax.gallery import build, page, sheet
from maskjax.gallery.entries import ENTRIES
from maskjax.gallery.frequency import frequency
from maskjax.gallery.scene import make_scene

CHOSEN = ["random", "outline", "masked convolution", "mixed images", "causal", "tubes"]
FEW = [entry for entry in ENTRIES if entry.title in CHOSEN]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery") / "new"
    return {path.name: path for path in build.build(folder, entries=FEW)}


@pytest.fixture(scope="module")
def data(built):
    text = built["gallery.html"].read_text()
    return json.loads(re.search(r"const data = (.*);\n", text)[1].replace("<\\/", "</"))


def test_the_same_bytes_every_time(built, tmp_path):
    again = build.build(tmp_path, entries=FEW[:2])
    first = build.build(tmp_path / "b", entries=FEW[:2])
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in first]
    other = build.build(tmp_path / "c", entries=FEW[:2], seed=1)
    assert all(a.read_bytes() != b.read_bytes() for a, b in zip(first, other, strict=True))


def test_the_sheet_holds_the_tiles(built):
    image = np.asarray(Image.open(built["gallery.png"]))
    assert image.shape[1] == 2 * 40 + len(FEW) * 228 - 20
    small = Image.open(built["gallery_small.png"])
    assert small.mode == "P" and small.width < image.shape[1]


def test_the_page_needs_nothing_from_outside(built):
    text = built["gallery.html"].read_text()
    assert not re.search(r"(src|href|url)\s*[=(]\s*[\"']?(https?:|//|file:)", text)
    script = re.search(r"<script>(.*?)</script>", text, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text and "default-src 'none'" in text
    assert len(re.findall("<canvas", text)) == len(FEW)


def test_the_page_holds_a_map_and_a_text_for_every_position(data):
    shares, seeds = 1 + len(data["ratios"]), len(data["seeds"])
    for entry in data["entries"]:
        texts, which = entry["code"]
        assert len(which) == shares and len(entry["at"]) == shares * seeds
        assert max(which) == len(texts) - 1 and max(entry["at"]) == len(entry["maps"]) - 1
    of_random = data["entries"][0]
    assert of_random["code"][0][0] == "masking.random(key, (14, 14), num_visible=49)"
    hidden = np.unpackbits(np.frombuffer(base64.b64decode(of_random["maps"][0]), np.uint8))[:196]
    assert hidden.sum() == 147


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_packing(bits):
    cells = np.random.default_rng(0).integers(0, 2**bits, (5, 7)).astype(np.uint8)
    packed = np.frombuffer(base64.b64decode(page.pack(cells, bits)), np.uint8)
    found = np.unpackbits(packed)[: 35 * bits].reshape(-1, bits) @ (1 << np.arange(bits)[::-1])
    assert np.array_equal(found.reshape(5, 7), cells)


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs a browser")
def test_the_script_draws(built, tmp_path):
    """Headless, from file://; what the page says when it is done."""
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
    options += " --disable-background-networking --disable-component-update --dump-dom"
    command = ["chromium", *options.split(), f"--user-data-dir={tmp_path}"]
    command += ["--virtual-time-budget=8000", f"file://{built['gallery.html']}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert f'data-drawn="{len(FEW)}"' in done.stdout
    assert "masking.random(key, (14, 14), num_visible=49)</code>" in done.stdout


def test_the_coverage_of_random_masks_is_even():
    share = frequency(FEW[0], make_scene())
    assert share.shape == (14, 14)
    assert share.mean() == pytest.approx(0.75)
    assert share.min() > 0.69 and share.max() < 0.81


def test_code_is_wrapped_but_numbers_stay_together():
    lines = sheet.wrap("masking.box(key, (112, 112), area=0.25)", 24)
    assert lines == ["masking.box(key,", "  (112, 112), area=0.25)"]


@pytest.mark.parametrize(
    "options, said",
    [
        (["--seed=-1"], "--seed=-1"),
        (["--image=nowhere.png"], "nowhere.png: no such file"),
    ],
)
def test_wrong_input_is_told(options, said, tmp_path, capsys):
    assert main(["gallery", f"--out={tmp_path}", *options]) == 2
    assert said in capsys.readouterr().err


def test_out_must_be_a_folder(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["gallery", f"--out={tmp_path / 'file'}"]) == 2
    assert "is a file" in capsys.readouterr().err
