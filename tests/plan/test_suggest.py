"""What is tried, in which order, and which is taken; plans are made up."""

import types

import pytest

from maskjax.config import load_config
from maskjax.errors import UserError
from maskjax.plan import suggest as module
from maskjax.plan.hardware import hardware
from maskjax.plan.report import COMPILED, ESTIMATED
from maskjax.plan.table import suggestion_text

OPTIONS = {"num_examples": 1000, "mfu": 0.4}
SIZES = ("model.encoder.heads=4", "model.image_size=(64,64)", "model.encoder.depth=1")


def config_of(*overrides, spec="mim/mae:b16"):
    return load_config(spec, [f"--config.{o}" for o in (*SIZES, *overrides)])[0]


@pytest.fixture
def config():
    return config_of("data.global_batch=64")


@pytest.fixture
def planned(monkeypatch):
    """Replaces plans by a rule (config, compiled) -> fits; notes what was asked."""
    asked = []

    def install(rule):
        def make_plan(config, hardware, *, compiler, **options):
            asked.append((dict(config.mesh), config.model.remat, config.train.accumulate, compiler))
            how = COMPILED if compiler else ESTIMATED
            peak = 2**30 * (1 + len(asked))
            fits = rule(config, compiler)
            return types.SimpleNamespace(
                fits=fits, how=how, mesh=dict(config.mesh), peak_bytes=peak
            )

        monkeypatch.setattr(module, "make_plan", make_plan)
        return asked

    return install


def test_candidates_keep_the_batch_and_start_with_the_cheapest(config):
    found = module.candidates(config, hardware("v5e:4x4"), **OPTIONS)
    first = found[0]
    assert (first.remat, first.accumulate, first.mesh["tensor"]) == ("none", 1, 1)
    for one in found:
        shards = 16 // one.mesh["tensor"]
        assert 64 % (shards * one.accumulate) == 0
    alone = [one for one in found if one.mesh["tensor"] == 1]
    assert found[: len(alone)] == alone
    assert [one.seconds for one in alone] == sorted(one.seconds for one in alone)
    assert {one.mesh["fsdp"] for one in alone} == {1, 8, 16}


def test_heads_that_do_not_divide_get_no_tensor_axis():
    config = config_of("data.global_batch=64", "model.encoder.heads=3", "model.encoder.dim=192")
    found = module.candidates(config, hardware("v5e:4x4"), **OPTIONS)
    assert {one.mesh["tensor"] for one in found} == {1}


def test_the_first_that_fits_is_taken(config, planned):
    planned(lambda config, compiled: config.model.remat == "full")
    found = module.suggest(config, hardware("v5e:4x4"), compiler=False, **OPTIONS)
    candidate, plan = found.best
    assert candidate.remat == "full"
    assert plan is found.tried[-1][1]
    assert all(one.fits is False for _, one in found.tried[:-1])
    assert "--config.model.remat=full" in suggestion_text(found).splitlines()[-1]
    changed = candidate.applied(config)
    assert changed.model.remat == "full"
    assert config.model.remat == "none"


def test_an_estimate_that_does_not_decide_is_not_enough(config, planned):
    planned(lambda config, compiled: None)
    found = module.suggest(config, hardware("v5e:4x4"), compiler=False, **OPTIONS)
    assert found.best is None
    assert "the rows that say unknown may" in suggestion_text(found)


def test_the_compiler_has_the_last_word(config, planned):
    """Estimates say perhaps; the first two compilations do not fit."""
    asked = planned(lambda config, compiled: (sum(a[3] for a in asked) > 2) if compiled else None)
    found = module.suggest(config, hardware("v5e:4x4"), compiler=True, **OPTIONS)
    assert [how for *_, how in asked] == [False, True] * 3
    assert found.best[1].how == COMPILED
    assert suggestion_text(found).count("compiler") == 3


def test_nothing_fits(config, planned):
    planned(lambda config, compiled: False)
    found = module.suggest(config, hardware("v5e:2x2"), compiler=True, **OPTIONS)
    assert found.best is None
    assert suggestion_text(found).splitlines()[-1].startswith("nothing fits: take more devices")


def test_a_batch_that_no_mesh_takes():
    with pytest.raises(UserError, match="no mesh of 16 devices divides"):
        config = config_of("data.global_batch=6")
        module.suggest(config, hardware("v5e:4x4"), compiler=False, **OPTIONS)
