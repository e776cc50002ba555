"""Checkpoints: exact on any mesh, the right ones kept, loud about every difference."""

import dataclasses
import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import SingleDeviceSharding
from small_state import META, State, abstract, make, same, saved

from maskjax.errors import UserError
from maskjax.train.checkpoint import Checkpoints
from maskjax.train.ema import ema_params
from maskjax.train.migrations import FORMAT_VERSION
from maskjax.train.sharding import make_mesh


def test_round_trip(tmp_path):
    state = make(data=2, fsdp=4)
    with Checkpoints(tmp_path / "new" / "run", every=3) as checkpoints:
        assert checkpoints.latest_step() is None
        assert checkpoints.save(3, state, 2**40 + 7, META)
        checkpoints.wait()
        restored, position, meta = checkpoints.restore(abstract({"data": 2, "fsdp": 4}))
    same(restored, state)
    assert position == 2**40 + 7
    assert meta["config"] == META["config"] and meta["format_version"] == FORMAT_VERSION
    assert meta["versions"]["jax"] == jax.__version__
    for x, y in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        assert x.sharding.is_equivalent_to(y.sharding, x.ndim)


@pytest.mark.parametrize("mesh", [{"fsdp": 8}, {"replica": 2, "tensor": 4}, None, "default"])
def test_restore_on_another_mesh_is_bit_identical(tmp_path, mesh):
    state = make(data=2, fsdp=4)
    assert len(state.params["encoder"]["blocks"]["kernel"].sharding.device_set) == 8
    saved(tmp_path, state)
    if mesh is None:
        target = abstract(sharding=SingleDeviceSharding(jax.devices()[5]))
    else:
        target = abstract() if mesh == "default" else abstract(mesh)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        restored, _, _ = checkpoints.restore(target)
    same(restored, state)
    kernel = restored.params["encoder"]["blocks"]["kernel"]
    assert len(kernel.sharding.device_set) == (8 if isinstance(mesh, dict) else 1)
    if mesh is None:
        assert kernel.devices() == {jax.devices()[5]}


def test_the_state_may_be_donated_as_soon_as_save_returns(tmp_path):
    overwrite = jax.jit(
        lambda s: jax.tree.map(lambda x: (x * 0).astype(x.dtype), s), donate_argnums=0
    )
    expected = {}
    with Checkpoints(tmp_path, every=1, keep_last=4) as checkpoints:
        for step in range(1, 5):
            state = make(step, data=2, fsdp=4)
            expected[step] = jax.tree.map(lambda x: np.array(x, copy=True), state)
            checkpoints.save(step, state, step, META)
            jax.block_until_ready(overwrite(state))
        checkpoints.wait()
        for step, state in expected.items():
            same(checkpoints.restore(abstract({"fsdp": 8}), step)[0], state)


def test_every_and_force(tmp_path):
    with Checkpoints(tmp_path, every=4, keep_last=9) as checkpoints:
        started = [s for s in range(1, 11) if checkpoints.save(s, make(), s, META)]
        assert started == [4, 8]
        assert checkpoints.save(10, make(), 10, META, force=True)
        assert not checkpoints.save(10, make(), 10, META, force=True), "it is there already"
        checkpoints.wait()
        assert checkpoints.all_steps() == [4, 8, 10]
    with Checkpoints(tmp_path, every=4, keep_last=9) as checkpoints:  # a resumed run
        assert not checkpoints.save(8, make(), 8, META)
        assert checkpoints.save(12, make(), 12, META)
    with Checkpoints(tmp_path / "off") as checkpoints:
        assert not any(checkpoints.save(s, make(), s, META) for s in range(1, 4))


def test_keep_last_and_keep_every(tmp_path):
    kwargs = {"every": 1, "keep_last": 2, "keep_every": 4}
    for steps in (range(1, 7), range(7, 12)):  # the rules hold across a restart
        with Checkpoints(tmp_path, **kwargs) as checkpoints:
            for step in steps:
                checkpoints.save(step, make(), step, META)
            checkpoints.wait()
            last = steps[-1]
            assert checkpoints.all_steps() == sorted({*range(4, last + 1, 4), last - 1, last})
            assert checkpoints.latest_step() == last


@pytest.mark.parametrize(("mode", "best"), [("max", 3), ("min", 4)])
def test_keep_best(tmp_path, mode, best, caplog):
    scores = {1: 0.2, 2: 0.5, 3: 0.9, 4: 0.1, 5: None, 6: float("nan"), 7: 0.4}
    for steps in ((1, 2, 3), (4, 5, 6, 7)):  # the metric is read back after a restart
        with Checkpoints(tmp_path, every=1, keep_best=("knn", mode)) as checkpoints:
            for step in steps:
                metrics = None if scores[step] is None else {"knn": scores[step], "loss": 1.0}
                checkpoints.save(step, make(), step, META, metrics)
    assert Checkpoints(tmp_path, read_only=True).all_steps() == [best, 7]
    assert "keep_best" in caplog.text


def test_a_misspelt_metric_is_said(tmp_path, caplog):
    with Checkpoints(tmp_path, every=1, keep_best=("kn", "max")) as checkpoints:
        checkpoints.save(1, make(), 1, META, {"knn": 1.0})
    assert "'kn'" in caplog.text and "knn" in caplog.text


@pytest.mark.parametrize(
    ("kwargs", "key"),
    [
        ({"every": -1}, "every"),
        ({"keep_last": 0}, "keep_last"),
        ({"keep_last": 1.5}, "keep_last"),
        ({"keep_every": -2}, "keep_every"),
        ({"keep_best": ("knn", "highest")}, "keep_best"),
        ({"keep_best": "knn"}, "keep_best"),
    ],
)
def test_impossible_values_name_the_key(tmp_path, kwargs, key):
    with pytest.raises(UserError, match=rf"config\.checkpoint\.{key}"):
        Checkpoints(tmp_path, **kwargs)


def changed(**parts) -> State:
    return dataclasses.replace(abstract({"fsdp": 8}), **parts)


def test_differences_name_the_leaf(tmp_path):
    saved(tmp_path)
    good = abstract({"fsdp": 8})
    blocks = good.params["encoder"]["blocks"]
    half = {**good.params["encoder"], "cls_token": jax.ShapeDtypeStruct((16,), jnp.bfloat16)}
    wide = {**blocks, "bias": jax.ShapeDtypeStruct((2, 64), jnp.float32)}
    more = {**good.extra, "teacher": jax.ShapeDtypeStruct((2,), jnp.float32)}
    cases = {
        r"params/encoder/cls_token: bfloat16\[16\] wanted, float32\[16\] stored": changed(
            params={"encoder": half}
        ),
        r"params/encoder/blocks/bias: float32\[2, 64\] wanted, float32\[2, 32\] stored": changed(
            params={"encoder": {**good.params["encoder"], "blocks": wide}}
        ),
        r"extra/teacher: float32\[2\] wanted, not stored": changed(extra=more),
        r"extra/seen: bool\[16\] stored, not wanted": changed(extra={"queue": good.extra["queue"]}),
    }
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        for message, target in cases.items():
            with pytest.raises(UserError, match=message) as error:
                checkpoints.restore(target)
            assert str(tmp_path / "3") in str(error.value)
        with pytest.raises(UserError, match=r"and \d+ more"):
            checkpoints.restore(changed(opt_state={}))


def test_params_extra_and_average_alone(tmp_path):
    state = make(data=2, fsdp=4)
    saved(tmp_path, state)
    target = abstract(sharding=SingleDeviceSharding(jax.devices()[0]))
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        params, extra, meta = checkpoints.restore_params(3, target.params)
        same(params, state.params)
        assert extra is None and meta["config"] == META["config"]
        params, extra, _ = checkpoints.restore_params(
            None, target.params, extra=target.extra, ema=True
        )
        same(params, ema_params(state.opt_state))
        same(extra, state.extra)
        part = {"encoder": {"cls_token": target.params["encoder"]["cls_token"]}}
        same(
            checkpoints.restore_params(3, part)[0]["encoder"],
            {"cls_token": state.params["encoder"]["cls_token"]},
        )
        wrong = {"encoder": {"norm": jax.ShapeDtypeStruct((3,), jnp.float32)}}
        with pytest.raises(UserError, match=r"params/encoder/norm: .* not stored"):
            checkpoints.restore_params(3, wrong)
    plain = dataclasses.replace(state, opt_state={"main": optax.adam(0.1).init(state.params)})
    saved(tmp_path / "plain", plain)
    with (
        Checkpoints(tmp_path / "plain", read_only=True) as checkpoints,
        pytest.raises(UserError, match=r"config\.optim\.ema"),
    ):
        checkpoints.restore_params(3, target.params, ema=True)


def test_a_manager_that_wrote_can_read_everything(tmp_path):
    with Checkpoints(tmp_path, every=1) as checkpoints:
        checkpoints.save(1, make(1), 1, META)
        checkpoints.restore_params(None, abstract().params)
        checkpoints.restore(abstract())
        checkpoints.save(2, make(2), 2, META)
        same(checkpoints.restore(abstract())[0], make(2))
        assert checkpoints.meta()["config"] == META["config"]


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match="no such directory"):
        Checkpoints(tmp_path / "nowhere", read_only=True)
    assert not (tmp_path / "nowhere").exists()
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(UserError, match="no finished checkpoint"),
    ):
        checkpoints.restore(abstract())
    saved(tmp_path)
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(UserError, match=r"no checkpoint of step 7 \(steps found: 3\)"),
    ):
        checkpoints.restore(abstract(), 7)


def test_read_only_never_writes(tmp_path):
    saved(tmp_path)
    with (
        Checkpoints(tmp_path, every=1, read_only=True) as checkpoints,
        pytest.raises(RuntimeError, match="read_only"),
    ):
        checkpoints.save(4, make(), 4, META, force=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["3"]


def test_an_ambient_mesh_is_refused_and_a_transfer_guard_is_not_in_the_way(tmp_path):
    mesh = make_mesh({"fsdp": 8})
    with Checkpoints(tmp_path, every=1) as checkpoints:
        with jax.set_mesh(mesh), pytest.raises(RuntimeError, match="set_mesh"):
            checkpoints.save(1, make(), 1, META)
        state = make(fsdp=8)
        with jax.transfer_guard("disallow"):
            checkpoints.save(1, state, 1, META)
            restored, _, _ = checkpoints.restore(abstract({"fsdp": 8}))
        same(restored, state)


def test_start_and_commit_are_logged(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "maskjax.train.checkpoint"):
        saved(tmp_path, steps=(3, 4))
    text = [r.getMessage() for r in caplog.records if r.name == "maskjax.train.checkpoint"]
    for step in (3, 4):
        assert any(t.startswith(f"checkpoint {step}: saving to {tmp_path}") for t in text)
        assert any(t.startswith(f"checkpoint {step}: committed after") for t in text)


def test_meta_must_be_json(tmp_path):
    with Checkpoints(tmp_path, every=1) as checkpoints:
        with pytest.raises(TypeError, match="JSON"):
            checkpoints.save(1, make(), 1, {"config": object()})
        assert checkpoints.all_steps() == []
        assert checkpoints.save(1, make(), 1, META), "a failed attempt leaves nothing behind"
