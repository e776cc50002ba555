"""Banks of coloured noise in files."""

import json

import jax
import numpy as np
import pytest

from maskjax import masking
from maskjax.masking.banks import bank_slice, load_bank, save_bank
from maskjax.masking.noise_filters import radial_power


def bank(num=3, size=(12, 16), color="green"):
    make = jax.jit(lambda n: bank_slice(5, n, color, size=size))
    return np.stack([make(i) for i in range(num)])


def test_a_slice_depends_on_seed_and_number_alone():
    first, more = bank(2), bank(3)
    np.testing.assert_array_equal(first, more[:2])
    assert len(np.unique(more.reshape(3, -1), axis=0)) == 3
    assert not np.array_equal(bank_slice(6, 0, size=(12, 16)), first[0])
    assert more.min() == 0 and more.max() == 1


def test_a_bank_has_the_spectrum_of_its_color():
    power = radial_power(bank(16, (32, 32), "red"))
    assert (np.diff(power) < 0).all()


def test_what_is_saved_is_loaded_and_cut(tmp_path):
    made = bank()
    save_bank(tmp_path / "green.npz", made, color="green", seed=5)
    loaded = load_bank(tmp_path / "green.npz")
    np.testing.assert_array_equal(loaded, made)
    with np.load(tmp_path / "green.npz") as file:
        # The official code takes the first array of the file.
        assert file.files[0] == "bank"
        assert json.loads(str(file["about"])) == {"color": "green", "seed": 5}
    cut = jax.jit(lambda key, bank: masking.colored_from_bank(key, bank, (4, 5), num_visible=7))
    keys = jax.random.split(jax.random.key(0), 16)
    split = jax.vmap(cut, (0, None))(keys, loaded)
    assert (split.hidden().sum(-1) == 13).all()
    assert len(np.unique(split.hidden(), axis=0)) > 8


@pytest.mark.parametrize("dtype", [np.float64, np.uint8])
def test_foreign_files_are_read(dtype, tmp_path):
    values = (np.arange(48).reshape(3, 4, 4) % 7).astype(dtype)
    np.savez(tmp_path / "theirs.npz", values)
    np.save(tmp_path / "plain.npy", values)
    for name in ("theirs.npz", "plain.npy"):
        loaded = load_bank(tmp_path / name)
        assert loaded.dtype == np.float32
        np.testing.assert_array_equal(loaded, values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((4, 4), np.float32), r"\[slices, rows, columns\], got float32\[4, 4\]"),
        (np.zeros((0, 4, 4)), "slices"),
        (np.full((1, 2, 2), "a"), "a bank has numbers"),
        (np.full((1, 2, 2), -0.1), "finite values >= 0"),
        (np.full((1, 2, 2), np.nan), "finite values >= 0"),
    ],
)
def test_what_is_no_bank_is_refused(values, message, tmp_path):
    np.savez(tmp_path / "no.npz", values)
    with pytest.raises(ValueError, match=message) as error:
        load_bank(tmp_path / "no.npz")
    assert "no.npz" in str(error.value)
    with pytest.raises(ValueError, match="the bank: "):
        save_bank(tmp_path / "never.npz", values)
    assert not (tmp_path / "never.npz").exists()


def test_files_that_are_no_arrays(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        load_bank(tmp_path / "nowhere.npz")
    np.savez(tmp_path / "empty.npz")
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "nothing.npz").touch()
    for name in ("empty.npz", "text.npz", "nothing.npz"):
        with pytest.raises(ValueError, match=f"{name} is no .npz or .npy file"):
            load_bank(tmp_path / name)
