"""Checkpoints: exact on any mesh, never half, loud about every difference, old formats readable."""

import dataclasses
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

from maskjax.errors import UserError
from maskjax.train import migrations
from maskjax.train.checkpoint import Checkpoints
from maskjax.train.ema import ema_params, with_ema
from maskjax.train.leaves import by_name, checksums
from maskjax.train.migrations import FORMAT_VERSION, rename_leaves
from maskjax.train.sharding import make_mesh, param_shardings

META = {"config": {"method": "mim.mae", "sizes": [1, 2]}}
ROOT = Path(__file__).resolve().parents[2]
TX = with_ema(optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)), 0.9)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    """The fields of the training state."""

    step: jax.Array
    params: dict
    opt_state: dict
    extra: dict


def init(seed: int) -> State:
    keys = jax.random.split(jax.random.key(seed), 4)
    blocks = {
        "kernel": jax.random.normal(keys[0], (2, 16, 32)),
        "bias": jax.random.normal(keys[1], (2, 32)),
    }
    params = {"encoder": {"blocks": blocks, "cls_token": jax.random.normal(keys[2], (16,))}}
    extra = {
        "queue": jax.random.normal(keys[3], (8, 4)).astype(jnp.bfloat16),
        "seen": jnp.arange(16) % 3 == 0,
    }
    return State(jnp.asarray(seed, jnp.int32), params, {"main": TX.init(params)}, extra)


def abstract(shape=None, sharding=None) -> State:
    """The state's shapes, on a mesh of this shape, or all with this sharding."""
    tree = jax.eval_shape(init, 0)
    places = jax.tree.map(lambda _: sharding, tree)
    if shape:
        places = param_shardings(tree, make_mesh(shape), min_size=1)
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, places
    )


@jax.jit
def after_one_update(seed: jax.Array) -> State:
    """A state whose every leaf has its own random values, the moments included."""
    state = init(seed)
    grads = jax.tree.map(lambda p: p * 0.3 + seed, state.params)
    updates, opt_state = TX.update(grads, state.opt_state["main"], state.params)
    params = optax.apply_updates(state.params, updates)
    return State(state.step, params, {"main": opt_state}, state.extra)


def make(seed: int = 3, **mesh: int) -> State:
    state = after_one_update(seed)
    places = jax.tree.map(lambda x: x.sharding, abstract(mesh)) if mesh else None
    return jax.device_put(state, places) if mesh else state


def same(a, b) -> None:
    """Equal structure, dtypes and bits."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (name, x), y in zip(by_name(a).items(), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype, name
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes(), name


def saved(directory, state=None, steps=(3,), **kwargs) -> Path:
    with Checkpoints(directory, **kwargs) as checkpoints:
        for step in steps:
            assert checkpoints.save(step, state or make(), 64 * step, META, force=True)
    return Path(directory)


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
        with pytest.raises(UserError, match="params/encoder/norm: .* not stored"):
            checkpoints.restore_params(3, wrong)
    plain = dataclasses.replace(state, opt_state={"main": optax.adam(0.1).init(state.params)})
    saved(tmp_path / "plain", plain)
    with Checkpoints(tmp_path / "plain", read_only=True) as checkpoints:
        with pytest.raises(UserError, match=r"config\.optim\.ema"):
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
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(UserError, match="no finished checkpoint"):
            checkpoints.restore(abstract())
    saved(tmp_path)
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(UserError, match=r"no checkpoint of step 7 \(steps found: 3\)"):
            checkpoints.restore(abstract(), 7)


def test_read_only_never_writes(tmp_path):
    saved(tmp_path)
    with Checkpoints(tmp_path, every=1, read_only=True) as checkpoints:
        with pytest.raises(RuntimeError, match="read_only"):
            checkpoints.save(4, make(), 4, META, force=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["3"]


def test_leftovers_are_ignored_and_only_a_writer_removes_them(tmp_path):
    directory = saved(tmp_path, steps=(3,))
    leftover = directory / "5.orbax-checkpoint-tmp"
    shutil.copytree(directory / "3", leftover)
    with Checkpoints(directory, read_only=True) as checkpoints:
        assert checkpoints.all_steps() == [3] and checkpoints.latest_step() == 3
        checkpoints.restore(abstract())
    assert leftover.exists(), "another process may be writing it"
    with Checkpoints(directory, every=1) as checkpoints:
        assert checkpoints.latest_step() == 3
        checkpoints.save(5, make(5), 5, META)
        same(checkpoints.restore(abstract())[0], make(5))
    assert not leftover.exists()


def flip_largest(item: Path) -> None:
    """Change one bit in the middle of the largest file: the arrays."""
    path = max((p for p in item.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def truncate(item: Path) -> None:
    for path in item.rglob("d/*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE = {
    "no meta": lambda d: shutil.rmtree(d / "meta"),
    "no data": lambda d: shutil.rmtree(d / "data"),
    "no state": lambda d: shutil.rmtree(d / "state"),
    "empty meta": lambda d: (d / "meta" / "metadata").write_text(""),
    "no leaf table": lambda d: (d / "meta" / "metadata").write_text('{"format_version": 1}'),
    "broken data": lambda d: (d / "data" / "metadata").write_text('{"position": '),
    "no position": lambda d: (d / "data" / "metadata").write_text("{}"),
    "no arrays": lambda d: (d / "state" / "manifest.ocdbt").unlink(),
    "cut arrays": lambda d: truncate(d / "state"),
    "changed arrays": lambda d: flip_largest(d / "state"),
}


# tensorstore's threads outlive the failed read and complain to the closed event loop.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_names_the_directory(tmp_path, kind):
    kernel = jax.random.normal(jax.random.key(0), (300, 300))
    state = dataclasses.replace(make(), extra={"big": kernel})
    directory = saved(tmp_path, state)
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
    DAMAGE[kind](directory / "3")
    with Checkpoints(directory, read_only=True) as checkpoints:
        with pytest.raises(UserError, match="damaged") as error:
            checkpoints.restore(target)
    assert str(directory / "3") in str(error.value)


def rewrite(path: Path, change) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content)))


def as_version_0(directory: Path) -> None:
    """Turn a checkpoint into what was written before the format had a number."""
    rewrite(directory / "data" / "metadata", lambda d: {"next_index": d["position"]})
    rewrite(
        directory / "meta" / "metadata",
        lambda m: {k: v for k, v in m.items() if k != "format_version"},
    )


def test_version_0_is_migrated(tmp_path):
    state = make()
    directory = saved(tmp_path, state)
    as_version_0(directory / "3")
    with Checkpoints(directory, read_only=True) as checkpoints:
        restored, position, meta = checkpoints.restore(abstract())
    same(restored, state)
    assert position == 64 * 3 and meta["format_version"] == FORMAT_VERSION


def test_migrations_run_in_order_and_may_rename_leaves(tmp_path, monkeypatch):
    state = make()
    directory = saved(tmp_path, state)
    as_version_0(directory / "3")
    order = []

    def first(stored):
        order.append(1)
        return rename_leaves(stored, r"\bcls_token$", "token")

    def second(stored):
        order.append(2)
        return rename_leaves(stored, r"\btoken$", "class_token")

    monkeypatch.setattr(migrations, "FORMAT_VERSION", 3)
    monkeypatch.setattr(migrations, "MIGRATIONS", {**migrations.MIGRATIONS, 1: first, 2: second})
    encoder = dict(abstract().params["encoder"])
    encoder["class_token"] = encoder.pop("cls_token")
    with Checkpoints(directory, read_only=True) as checkpoints:
        params, _, meta = checkpoints.restore_params(3, {"encoder": encoder})
    assert order == [1, 2] and meta["format_version"] == 3
    same(params["encoder"]["class_token"], state.params["encoder"]["cls_token"])


def test_there_is_a_migration_from_every_version():
    assert sorted(migrations.MIGRATIONS) == list(range(FORMAT_VERSION))


def test_renaming_two_leaves_to_one_is_a_bug():
    stored = migrations.Stored({}, {}, {"a": None, "b": None})
    with pytest.raises(ValueError, match="one name"):
        rename_leaves(stored, "a|b", "c")


def test_a_newer_format_says_so(tmp_path):
    directory = saved(tmp_path)
    newer = {"format_version": FORMAT_VERSION + 1, "versions": {"maskjax": "9.9"}}
    rewrite(directory / "3" / "meta" / "metadata", lambda m: {**m, **newer})
    with Checkpoints(directory, read_only=True) as checkpoints:
        with pytest.raises(UserError, match=rf"format {FORMAT_VERSION + 1} is newer.*9\.9"):
            checkpoints.restore(abstract())


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


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "uint8", "bool"])
def test_checksums_see_single_bits_and_swaps_and_no_mesh(dtype):
    x = np.asarray(jax.random.randint(jax.random.key(0), (8, 6), 0, 2)).astype(jnp.dtype(dtype))
    swapped, changed_one = x.copy(), x.copy()
    i, j = (int(np.flatnonzero(x.ravel() == v)[0]) for v in (0, 1))
    swapped.flat[i], swapped.flat[j] = x.flat[j], x.flat[i]
    changed_one.flat[i] = x.flat[j]
    mesh = jax.make_mesh((8,), ("fsdp",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("fsdp")))
    values = {"x": x, "swapped": swapped, "changed": changed_one, "moved": np.roll(x, 1)}
    sums = checksums({"sharded": sharded} | {k: jnp.asarray(v) for k, v in values.items()})
    assert sums["sharded"] == sums["x"]
    assert len({sums[k] for k in values}) == len(values)


TRAIN = """
import sys, jax, jax.numpy as jnp
from maskjax.train.checkpoint import Checkpoints

def fill(step):
    params = {str(i): jnp.full((1024, 1024), step + i / 8) for i in range(4)}
    return {"step": jnp.int32(step), "params": params}

advance = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
with Checkpoints(sys.argv[1], every=1, keep_last=2) as checkpoints:
    state = fill(0)
    if checkpoints.latest_step() is not None:
        state, position, _ = checkpoints.restore(jax.eval_shape(fill, 0))
        assert position == 32 * int(state["step"]), position
    while True:
        state = advance(state)
        step = int(state["step"])
        checkpoints.save(step, state, 32 * step, {})
        print(step, flush=True)
"""


def kill_while_saving(directory: Path, min_steps: int, delay: float) -> bool:
    """Train in a process, kill -9 while a step is being written; whether half a step was left."""
    command = [sys.executable, "-c", TRAIN, str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
        for _ in range(min_steps):
            assert process.stdout.readline(), "the process died by itself"
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not list(directory.glob("*tmp*")):
            pass
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
    return bool(list(directory.glob("*tmp*")))


def check_steps(directory: Path) -> int:
    """Every listed step must hold exactly what was there at that step; returns the latest."""
    one = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
    target = {"step": jax.ShapeDtypeStruct((), jnp.int32), "params": dict.fromkeys("0123", one)}
    with Checkpoints(directory, read_only=True) as checkpoints:
        for step in checkpoints.all_steps()[-2:]:
            state, position, _ = checkpoints.restore(target, step)
            assert state["step"] == step and position == 32 * step
            for i in range(4):
                assert (np.asarray(state["params"][str(i)]) == step + i / 8).all()
        return checkpoints.latest_step()


def test_kill_9_while_saving_never_leaves_a_wrong_step(tmp_path):
    half_written, latest = 0, 0
    for attempt in range(8):
        half_written += kill_while_saving(tmp_path, 2 + attempt % 3, delay=attempt * 0.004)
        before, latest = latest, check_steps(tmp_path)
        assert latest > before, "only the steps since the last finished save may be lost"
        if half_written >= 3 and attempt >= 3:
            return
    pytest.fail("too few kills hit a save; make the state larger")


TWO = """
import sys, jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
jax.distributed.initialize(sys.argv[2], 2, int(sys.argv[3]))
from maskjax.train.checkpoint import Checkpoints
mesh = jax.make_mesh((4,), ("fsdp",), axis_types=(AxisType.Auto,))
sharding = NamedSharding(mesh, PartitionSpec("fsdp"))
make = jax.jit(lambda: {"params": {"w": jnp.arange(32.0).reshape(8, 4)}}, out_shardings=sharding)
with Checkpoints(sys.argv[1], every=1) as checkpoints:
    state = make()
    checkpoints.save(1, state, 5, {})
    checkpoints.wait()
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state)
    again, position, _ = checkpoints.restore(like)
    equal = jax.jit(lambda a, b: (a == b).all())(again["params"]["w"], state["params"]["w"])
    assert position == 5 and bool(equal)
"""


def test_saved_by_two_processes_restored_by_one(tmp_path):
    with socket.socket() as s:
        s.bind(("localhost", 0))
        address = f"localhost:{s.getsockname()[1]}"
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    command = [sys.executable, "-c", textwrap.dedent(TWO), str(tmp_path), address]
    runs = [
        subprocess.Popen([*command, str(i)], cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
        for i in range(2)
    ]
    errors = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], errors
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        target = {"params": {"w": jax.ShapeDtypeStruct((8, 4), jnp.float32)}}
        state, position, _ = checkpoints.restore(target)
    np.testing.assert_array_equal(state["params"]["w"], np.arange(32.0).reshape(8, 4))
    assert position == 5
