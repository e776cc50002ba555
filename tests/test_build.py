"""From a config to the parts of a run."""

import jax
import numpy as np
import pytest

from maskjax import build, data_parts
from maskjax.config import load_config
from maskjax.data.source import resolve
from maskjax.errors import UserError
from maskjax.interop import export_weights, files
from maskjax.masking import Draws
from maskjax.train.fill import method_geometry
from maskjax.train.leaves import by_name


def tiny(*overrides: str):
    return load_config("mim/mae:tiny", [f"--config.{override}" for override in overrides])[0]


@pytest.fixture(scope="module")
def parts():
    return build.experiment(tiny(), 1400)


@pytest.fixture(scope="module")
def state(parts):
    return parts.init()


@pytest.mark.parametrize(
    ("overrides", "total", "per_epoch"),
    [
        (["train.steps=7"], 7, 21.875),
        (["train.steps=0", "train.epochs=2.0"], 44, 21.875),
        (["train.steps=0", "train.epochs=0.01"], 1, 21.875),
        (["train.steps=0", "train.epochs=3.0", "data.global_batch=2800"], 2, 0.5),
    ],
)
def test_run_length(overrides, total, per_epoch):
    schedule = build.run_length(tiny(*overrides), 1400)
    assert schedule == (total, per_epoch)
    assert type(schedule.total_steps) is int


@pytest.mark.parametrize("variant", ["tiny", "demo", "b16", "l16", "h14"])
def test_every_variant_builds(variant):
    """Shapes only: nothing is computed, and no data is read."""
    config, _ = load_config(f"mim/mae:{variant}", ["--config.model.scan=on"])
    made = build.experiment(config, 1_281_167)
    sizes = {name: leaf.size for name, leaf in by_name(made.abstract_state.params).items()}
    millions = {"b16": 111.7, "l16": 329.2, "h14": 656.8}
    if variant in millions:  # the papers' models with their decoders, position tables aside
        assert sum(sizes.values()) / 1e6 == pytest.approx(millions[variant], rel=5e-3)
        peak = max(float(made.learning_rate(step)) for step in range(0, 40_000, 1000))
        assert peak == pytest.approx(1.5e-4 * 4096 / 256, rel=1e-3)
    assert made.schedule.total_steps > 0
    assert method_geometry(made.method).dim == config.model.encoder.dim


def test_the_state_is_born_as_described(parts, state):
    found, described = by_name(state), by_name(parts.abstract_state)
    assert found.keys() == described.keys()
    for name, leaf in found.items():
        assert (leaf.shape, leaf.dtype) == (described[name].shape, described[name].dtype), name
        assert leaf.sharding == described[name].sharding, name
    assert int(state.step) == 0
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(state.params))


def test_a_trace_of_the_step_finds_what_does_not_fit(parts):
    parts.check_step()
    bad = build.experiment(tiny("data.global_batch=12"), 1400)
    for check in (bad.check_step, bad.step):
        with pytest.raises(UserError, match=r"config\.data\.global_batch = 12: .* multiple of 8"):
            check()


def test_the_table_of_parameters(parts):
    table = parts.parameter_table()
    for name in by_name(parts.abstract_state.params):
        assert name in table
    assert "29,588" in table


def test_check_example():
    config = tiny()
    data_parts.check_example(config, resolve("digits", "train"))
    data_parts.check_example(config, resolve("photo_crops", "train"))  # resized, and made grey
    four = resolve("synthetic:8x8x4:10", "train")
    with pytest.raises(UserError, match="4 channels, the model wants 1"):
        data_parts.check_example(config, four)


def test_check_settings_passes_what_is_right():
    build.check_settings(tiny())
    during = "evaluate.during=('knn','held_out')"
    build.check_settings(tiny(during, "evaluate.every=5", "checkpoint.keep_best=('loss','min')"))
    # Without labels there is still something to evaluate; and no test split is needed to train.
    unlabelled = ("data.path=synthetic:8x8x1:64", "evaluate.every=5")
    build.check_settings(tiny("evaluate.during=('held_out',)", *unlabelled))
    build.check_settings(tiny("data.test_split=none"))


def test_evaluation_batches_divide_over_the_devices():
    batches = list(data_parts.eval_batches(tiny("evaluate.batch=100"), "test", ids=True)())
    assert {len(batch["image"]) for batch in batches} == {104}
    ids = [i for batch in batches for i in np.asarray(batch["id"])[batch["valid"]]]
    assert len(ids) == len(set(ids)) == 397
    assert len(batches[0]["label"]) == 104


def test_predict_on_the_mesh_equals_the_plain_functions(parts, state):
    batch = next(data_parts.eval_batches(tiny("evaluate.batch=16"), "test")())
    batch = {name: batch[name] for name in ("image", "position")}
    draws = Draws.keyed(jax.random.key(0), batch["position"])
    outputs = build.jitted_predict(parts)["encode"](state.params, state.extra, batch, draws)
    params = jax.device_get(state.params)
    plain = parts.method.predict["encode"](params, {}, batch, draws)
    for name, expected in plain.items():
        assert len(outputs[name].addressable_shards) == 8
        np.testing.assert_allclose(np.asarray(outputs[name]), np.asarray(expected), 1e-4, 1e-5)


@pytest.fixture(scope="module")
def weights(parts, tmp_path_factory):
    """({what: file}, the parameters in them: not those of step 0)."""
    params = jax.tree.map(
        lambda leaf: np.random.default_rng(leaf.size).normal(size=leaf.shape).astype(np.float32),
        parts.abstract_state.params,
    )
    files = {}
    for what in ("full", "encoder"):
        files[what] = tmp_path_factory.mktemp("weights") / f"{what}.safetensors"
        export_weights(params, method_geometry(parts.method), {}, "mae", files[what], what)
    return files, params


def test_init_from_a_whole_model(weights, state):
    files, params = weights
    begun = build.experiment(tiny(f"init_from={files['full']}"), 1400)
    begun.check_init()
    started = begun.start()
    for name, leaf in by_name(started.params).items():
        assert np.array_equal(np.asarray(leaf), by_name(params)[name]), name
        assert leaf.sharding == by_name(state.params)[name].sharding, name
    assert int(started.step) == 0


def test_init_from_an_encoder_alone(weights, state):
    files, params = weights
    options = (f"init_from={files['encoder']}", "init_missing=('decoder/*',)")
    begun = build.experiment(tiny(*options), 1400)
    begun.check_init()
    started = begun.start()
    for name, leaf in by_name(started.params).items():
        origin = by_name(params) if name.startswith("encoder/") else by_name(state.params)
        assert np.array_equal(np.asarray(leaf), np.asarray(origin[name])), name


def test_init_from_a_file_with_a_head(weights, tmp_path):
    arrays, metadata = files.read(weights[0]["full"])
    files.write(tmp_path / "w.npz", arrays | {"head.bias": np.zeros(3, np.float32)}, metadata)
    path = f"init_from={tmp_path / 'w.npz'}"
    with pytest.raises(UserError, match=r"unused: head\.bias(.|\n)*config\.init_unused = "):
        build.experiment(tiny(path), 1400).check_init()
    build.experiment(tiny(path, "init_unused=('head.*',)"), 1400).check_init()


def test_init_from_what_does_not_fit(weights):
    begun = build.experiment(tiny(f"init_from={weights[0]['encoder']}"), 1400)
    for check in (begun.check_init, begun.start):
        with pytest.raises(UserError, match=r"config\.init_from: (.|\n)*missing: decoder_pred\.w"):
            check()


def test_without_init_from(parts, state):
    parts.check_init()
    started = parts.start()
    for name, leaf in by_name(started).items():
        assert np.array_equal(np.asarray(leaf), np.asarray(by_name(state)[name])), name


def test_a_seed_of_its_own(state):
    other = build.experiment(tiny("seed=1"), 1400).init()
    kernel = other.params["encoder"]["patch_embed"]["kernel"]
    assert not np.array_equal(kernel, state.params["encoder"]["patch_embed"]["kernel"])
