"""`maskjax noise-bank`: what it writes, what it says, what it refuses."""

import numpy as np
import pytest
from runs import maskjax

from maskjax import masking
from maskjax.masking.noise_filters import radial_power


def make(out, *options, color="green"):
    return maskjax("noise-bank", f"--color={color}", f"--out={out}", "--size=16x12", *options)


def test_the_file_is_the_same_every_time_and_grows_with_its_slices(tmp_path, capsys):
    assert make(tmp_path / "a.npz", "--slices=3") == 0
    shown = capsys.readouterr()
    assert "3 slices of 16 x 12 of green noise, blur widths 0.7 and 2 patches" in shown.out
    assert "slice 3 of 3" in shown.err
    assert make(tmp_path / "b.npz", "--slices=3") == make(tmp_path / "c.npz", "--slices=5") == 0
    first, again, more = (masking.load_bank(tmp_path / f"{name}.npz") for name in "abc")
    assert first.shape == (3, 16, 12)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, more[:3])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz", "c.npz"]


def test_color_widths_and_seed_matter(tmp_path):
    made = {}
    for name, options in {
        "plain": (),
        "wide": ("--sigmas=3",),
        "seed": ("--seed=1",),
    }.items():
        assert make(tmp_path / f"{name}.npz", "--slices=8", *options, color="red") == 0
        made[name] = masking.load_bank(tmp_path / f"{name}.npz")
    assert not np.array_equal(made["plain"], made["seed"])
    power = {name: radial_power(bank) for name, bank in made.items()}
    assert (power["wide"] / power["wide"][0])[2] < (power["plain"] / power["plain"][0])[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--size=0",), "--size=0: a side such as 256"),
        (("--size=ax3",), "--size=ax3: "),
        (("--slices=0",), "--slices=0: at least 1"),
        (("--seed=-1",), "--seed=-1: must be"),
        (("--sigmas=2,1",), "--sigmas=2,1: sigmas of green noise must be two positive"),
        (("--sigmas=inf,nan",), "--sigmas=inf,nan: "),
        (("--sigmas=x",), "--sigmas=x: numbers with commas"),
        (("--color=pink",), "invalid choice: 'pink'"),
        (("--out=bank.txt",), "must end in .npz"),
        (("--out=no/such/folder/bank.npz",), "does not exist"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_made(options, message, tmp_path, capsys):
    assert make(tmp_path / "bank.npz", *options) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing_behind(tmp_path, capsys, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert make(tmp_path / "bank.npz", "--slices=1") == 2
    assert "No space left on device" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
