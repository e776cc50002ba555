"""Experiment files: how they are found, checked, overridden, and read back."""

import json

import pytest
from ml_collections import ConfigDict

from maskjax.config import (
    FREE_KEYS,
    config_folder,
    default_config,
    find_config,
    load_config,
    restored_config,
)
from maskjax.errors import UserError
from maskjax.observe.files import encode
from maskjax.observe.run_files import differences
from maskjax.train import optim

TINY = "mim/mae:tiny"


@pytest.mark.parametrize("name", ["mim/mae", "mim/mae.py", "configs/mim/mae", "configs/mim/mae.py"])
def test_installed_experiments_are_found_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == str(config_folder() / "mim" / "mae.py")
    assert find_config(f"{name}:b16").endswith("mae.py:b16")
    config, overrides = load_config(f"{name}:tiny")
    assert config.model.image_size == (8, 8)
    assert overrides == {}


def test_a_file_goes_before_an_installed_experiment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mim").mkdir()
    (tmp_path / "mim" / "mae.py").write_text(
        "from maskjax.configs import common\n"
        "def get_config(arg='none'):\n"
        "    config = common.experiment('mim.mae')\n"
        "    config.data.path = arg\n"
        "    return config\n"
    )
    assert load_config("mim/mae.py")[0].data.path == "none"
    assert load_config("mim/mae.py:mine:8")[0].data.path == "mine:8"


VARIANTS = {"tiny": 32, "demo": 64, "b16": 768, "l16": 1024, "h14": 1280}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_loads(variant):
    config, _ = load_config(f"mim/mae:{variant}")
    assert config.model.encoder.dim == VARIANTS[variant]
    assert (config.train.steps > 0) != (config.train.epochs > 0)
    assert (config.optim.lr > 0) != (config.optim.base_lr > 0)
    assert set(config.to_dict()) == set(default_config("mim.mae").to_dict())


def test_the_default_variant_is_the_papers():
    config, _ = load_config("mim/mae")
    assert config.model.encoder.dim == 768
    assert config.data.global_batch * config.train.accumulate == 4096
    assert config.model.mask_ratio == 0.75
    assert config.optim.b2 == 0.95


def test_every_override_type():
    given = {
        "train.steps": ("7", 7),
        "optim.lr": ("1e-2", 0.01),
        "data.path": ("folder:/a b", "folder:/a b"),
        "data.crop": ("True", True),
        "data.flip": ("false", False),
        "model.image_size": ("(16,8)", (16, 8)),
        "model.encoder.dim": ("8", 8),
        "model.mask_ratio": ("0.25", 0.25),
        "evaluate.during": ("('knn','rank')", ("knn", "rank")),
        "checkpoint.keep_best": ("('loss','min')", ("loss", "min")),
        "optim.groups": ("(('a','frozen'),)", (("a", "frozen"),)),
        "init_missing": ("('decoder/*',)", ("decoder/*",)),
        "mesh.fsdp": ("-1", -1),
    }
    config, overrides = load_config(TINY, [f"--config.{k}={v}" for k, (v, _) in given.items()])
    assert overrides == {key: value for key, (_, value) in given.items()}
    for key, (_, value) in given.items():
        found = config
        for part in key.split("."):
            found = found[part]
        assert found == value, key
        assert type(found) is type(value), key


def test_a_whole_number_for_a_float():
    assert load_config(TINY, ["--config.optim.lr=1"])[0].optim.lr == 1.0


def test_the_last_of_two_overrides_holds():
    options = ["--config.train.steps=3", "--config.train.steps=4"]
    config, overrides = load_config(TINY, options)
    assert config.train.steps == overrides["train.steps"] == 4


def test_the_config_is_locked():
    config, _ = load_config(TINY)
    with pytest.raises((AttributeError, KeyError)):
        config.data.pat = "digits"


def test_nothing_is_shared_between_loads():
    load_config(TINY, ["--config.model.encoder.dim=8", "--config.optim.lr=1.0"])
    config, _ = load_config(TINY)
    assert config.model.encoder.dim == 32
    assert config.optim.lr == 3e-3
    assert optim.DEFAULTS["lr"] == 0.0


def test_a_method_by_override_brings_no_model_of_its_own():
    """The entries of the model stay those of the file; the method checks them."""
    with pytest.raises(UserError, match="does not exist"):
        load_config(TINY, ["--config.method=mim.mae", "--config.model.other=1"])


def test_what_is_saved_is_what_is_read():
    config, _ = load_config(TINY, ["--config.optim.groups=(('a/b','lr*0.1'),)"])
    text = json.dumps(encode(config.to_dict()))
    again = restored_config(json.loads(text))
    assert isinstance(again, ConfigDict)
    assert again.to_dict() == config.to_dict()
    assert again.optim.groups == (("a/b", "lr*0.1"),)
    assert differences(again.to_dict(), config.to_dict()) == {}


def test_free_keys_exist():
    known = default_config("mim.mae")
    for key in FREE_KEYS:
        node = known
        for part in key.split("."):
            assert part in node, key
            node = node[part]


def test_an_error_of_ones_own_in_a_config_keeps_its_words(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from maskjax.errors import UserError\n"
        "def get_config(arg=''):\n    raise UserError('not on a Sunday')\n"
    )
    with pytest.raises(UserError, match=r"^not on a Sunday$"):
        load_config(str(path))


def test_an_error_in_what_a_config_calls_names_the_line_that_calls(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "helper_of_mine.py").write_text("def fill(config):\n\n    return 1 / 0\n")
    path = tmp_path / "mine.py"
    path.write_text("import helper_of_mine\ndef get_config():\n    helper_of_mine.fill(3)\n")
    with pytest.raises(UserError, match=r"mine\.py, line 3: ZeroDivisionError: division by zero"):
        load_config(str(path))


def test_a_relative_path_names_its_line_as_well(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def get_config():\n    return 1 / 0\n")
    with pytest.raises(UserError, match=r"--config=mine\.py, line 2: ZeroDivisionError"):
        load_config("mine.py")


def test_a_config_that_lacks_a_section(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config():\n    return ConfigDict({'method': 'mim.mae', 'seed': 0})\n"
    )
    with pytest.raises(UserError, match=r"the config lacks checkpoint, data, .*, train"):
        load_config(str(path))
