"""Finding and building methods."""

import jax
import numpy as np
import pytest
import tiny

from maskjax.errors import UserError
from maskjax.method import (
    Method,
    Schedule,
    build_method,
    load_method,
    method_names,
    model_config,
    require,
)

OWN = """
from maskjax.method import Method, Phase
DEFAULTS = {"width": 3, "inner": {"depth": 1}}
def build(cfg, example, schedule):
    return Method(lambda key, batch: ({}, {}), (), {}, describe={"cfg": cfg, "schedule": schedule})
"""


def test_names_lead_to_modules():
    assert "mim.mae" in method_names()
    for name in method_names():
        module = load_method(name)
        assert module.__name__ == f"maskjax.methods.{name}"
        assert callable(module.build)
        assert module.DEFAULTS


def test_a_dotted_path_into_a_package_of_ones_own(tmp_path, monkeypatch):
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "thing.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    schedule = Schedule(10, 2.5)
    method = build_method("my_package.thing", {"inner": {"depth": 4}}, {}, schedule)
    assert method.describe["cfg"].to_dict() == {"width": 3, "inner": {"depth": 4}}
    assert method.describe["schedule"] == schedule


@pytest.mark.parametrize(
    "name", ["mim.nope", "mae", "", "mim", "json", "mim/mae", ".mae", "mim..mae"]
)
def test_an_unknown_method_lists_the_valid_names(name):
    with pytest.raises(UserError, match=r"config\.method: no method .* Methods: .*mim\.mae"):
        load_method(name)


def test_a_near_miss_gets_a_suggestion():
    with pytest.raises(UserError, match=r"Did you mean 'mim\.mae'\?"):
        load_method("mim.mea")


def test_a_broken_method_says_what_it_lacks_itself(tmp_path, monkeypatch):
    (tmp_path / "broken_method.py").write_text("import no_such_dependency\n" + OWN)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        load_method("broken_method")


DEFAULTS = {"ratio": 0.75, "size": (4, 4), "encoder": {"dim": 16, "depth": 2}, "free": None}


def test_overrides_are_merged_into_the_defaults():
    cfg = model_config(DEFAULTS, {"size": 8, "encoder": {"dim": 32}, "free": "text"})
    assert cfg.to_dict() == {
        "ratio": 0.75,
        "size": 8,
        "encoder": {"dim": 32, "depth": 2},
        "free": "text",
    }
    assert DEFAULTS["encoder"]["dim"] == 16  # untouched
    # A whole resolved config goes back in.
    assert model_config(DEFAULTS, cfg.to_dict()).to_dict() == cfg.to_dict()
    assert model_config(DEFAULTS, cfg).to_dict() == cfg.to_dict()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"rato": 0.5}, r"config\.model\.rato does not exist; did you mean 'ratio'\?"),
        ({"encoder": {"dpth": 1}}, r"config\.model\.encoder\.dpth .* did you mean 'depth'\?"),
        ({"qqq": 1}, r"config\.model\.qqq does not exist; keys: encoder, free, ratio, size"),
        ({"encoder": 5}, r"config\.model\.encoder = 5: is a group with the keys depth, dim"),
    ],
)
def test_unknown_keys(overrides, message):
    with pytest.raises(UserError, match=message):
        model_config(DEFAULTS, overrides)


def test_require():
    require(True, "a.b", 1, "fine")
    with pytest.raises(UserError, match=r"^config\.a\.b = 1: must be 2$"):
        require(False, "a.b", 1, "must be 2")


def test_defaults_of_a_method_value():
    method = Method(lambda key, batch: ({}, {}), (), {})
    assert method.after_update({}, {"a": 1}, {}, 0) == {"a": 1}
    assert method.layers("anything") is None
    assert method.static(3) is None
    assert not method.coupled
    assert method.load == {}
    assert method.groups == ()


def test_building_computes_nothing_and_takes_shapes():
    example = {"image": jax.ShapeDtypeStruct((2, 8, 8, 3), np.uint8)}
    method = build_method("mim.mae", tiny.MODEL, example)
    assert set(method.predict) >= {"encode", "reconstruct"}
    assert [phase.wrt for phase in method.phases] == [""]
