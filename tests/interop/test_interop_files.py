"""Tensor files: what is written is read back, damage is named, writes are whole or not at all."""

import builtins
import pickle

import ml_dtypes
import numpy as np
import pytest

from maskjax.errors import UserError
from maskjax.interop import files

ARRAYS = {
    "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "strided": np.arange(12, dtype=np.float32)[::3],
    "bf16": np.arange(5).astype(ml_dtypes.bfloat16).reshape(5, 1),
    "scalar": np.array(3.0, np.float16),
    "empty": np.zeros((0, 3), np.float32),
    "int": np.arange(4, dtype=np.int64),
    "big_endian": np.arange(3, dtype=">f4"),
}
METADATA = {"layout": "mae", "mean": "[0.5]"}
suffixes = pytest.mark.parametrize("suffix", [".safetensors", ".npz"])


@suffixes
def test_round_trip(tmp_path, suffix):
    path = tmp_path / "new" / f"w{suffix}"
    files.write(path, ARRAYS, METADATA)
    arrays, metadata = files.read(path)
    assert metadata == METADATA
    assert arrays.keys() == ARRAYS.keys()
    for key, array in ARRAYS.items():
        assert arrays[key].dtype.newbyteorder("=") == array.dtype.newbyteorder("="), key
        assert arrays[key].shape == array.shape, key
        np.testing.assert_array_equal(arrays[key], array, err_msg=key)


@suffixes
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"w{suffix}"
    files.write(path, ARRAYS, METADATA)
    before = path.read_bytes()

    def full_disk(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full_disk)
    with pytest.raises(UserError, match="cannot be written: No space left"):
        files.write(path, {"a": np.zeros(3)}, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def read_error(path) -> str:
    with pytest.raises(UserError) as error:
        files.read(path)
    assert str(path) in str(error.value)
    return str(error.value)


@suffixes
@pytest.mark.parametrize("keep", [0, 5, 60, -1])
def test_truncated(tmp_path, suffix, keep):
    path = tmp_path / f"w{suffix}"
    files.write(path, ARRAYS, METADATA)
    path.write_bytes(path.read_bytes()[:keep])
    assert "Copy or download it again" in read_error(path)


@suffixes
def test_garbage_and_lfs_pointers(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(b"\x01" * 500)
    assert f"is no whole {suffix[1:]} file" in read_error(path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "git lfs pull" in read_error(path)


def test_a_pickle_under_another_name_is_not_opened(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(pickle.dumps({"model": 1}))
    assert "a pickle or zip file" in read_error(path)
    npz = tmp_path / "w.npz"
    np.savez(npz, a=np.array([{"object": 1}], dtype=object))
    assert "is no whole npz file" in read_error(npz)


def test_paths(tmp_path):
    assert "no such file" in read_error(tmp_path / "none.npz")
    assert "is a folder" in read_error(tmp_path)
    other = tmp_path / "w.h5"
    other.write_bytes(b"x")
    assert "unknown kind of weights file '.h5'" in read_error(other)
    with pytest.raises(UserError, match=r"written as \.safetensors"):
        files.write(tmp_path / "w.pth", ARRAYS, {})


def test_pth_without_torch_says_what_to_do(tmp_path, monkeypatch):
    real = builtins.__import__

    def no_torch(name, *args, **kwargs):
        if name == "torch":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_torch)
    path = tmp_path / "w.pth"
    path.write_bytes(b"x")
    message = read_error(path)
    assert "install torch" in message
    assert "convert the file to safetensors" in message


@pytest.mark.parametrize("wrap", [None, "model", "state_dict", "module"])
def test_pth(tmp_path, wrap):
    torch = pytest.importorskip("torch")
    import argparse

    path = tmp_path / "w.pth"
    state = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.ones(2, dtype=torch.bfloat16)}
    beside = {"epoch": 3, "args": argparse.Namespace(lr=0.1)}
    torch.save({wrap: state, **beside} if wrap else state, path)
    arrays, metadata = files.read(path)
    assert metadata == {} and arrays.keys() == state.keys()
    np.testing.assert_array_equal(arrays["a"], np.arange(6.0).reshape(2, 3).T)
    assert arrays["b"].dtype == ml_dtypes.bfloat16


def test_a_torchscript_program_is_no_weights_file(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "clip.pt"
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(path)
    assert "is a TorchScript program, as OpenAI's CLIP files are" in read_error(path)


class Code:
    """An object whose unpickling would run code."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('ran')",))


def test_pth_with_code_or_damage_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "w.pth"
    torch.save({"model": Code()}, path)
    assert "refused because loading them can run code" in read_error(path)
    path.write_bytes(path.read_bytes()[:40])
    assert "is damaged" in read_error(path)
    torch.save({"epoch": 3}, path)
    assert "holds no tensors; its keys are: epoch" in read_error(path)
    torch.save([1], path)
    assert "holds a list" in read_error(path)
