"""Classification: heads, losses, what is trained, what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax import build as building
from maskjax import data_parts
from maskjax.config import load_config
from maskjax.errors import UserError
from maskjax.evaluate.classification import measured
from maskjax.interop.paths import flatten
from maskjax.interop.shapes import param_shapes
from maskjax.masking import Draws, patchify
from maskjax.method import build_method
from maskjax.methods.supervised.classify import right_at
from maskjax.nn.families import geometry_from
from maskjax.nn.norm import batch_moments, update_running_moments
from maskjax.nn.vit import Classifier, Size
from maskjax.targets import label_mixing
from maskjax.train.optim import build_optimizer, param_rules
from maskjax.train.state import create_state
from maskjax.train.step import make_train_step

BATCH = {**tiny.batch(8), "label": np.arange(8, dtype=np.int32) % 7}
MODEL = {
    "image_size": (8, 8),
    "patch_size": 2,
    "num_classes": 7,
    "encoder": {"dim": 16, "depth": 2, "heads": 2, "mlp_ratio": 2.0},
    "swin": {"dim": 8, "depths": (1, 1), "heads": (1, 2), "window": 2, "mlp_ratio": 2.0},
    "drop_path": 0.0,
    "head_std": 0.1,
}
PLAIN = {"mixup": 0.0, "cutmix": 0.0, "smoothing": 0.0}
SWIN = {"backbone": "swin", "pool": "mean", "norm_eps": 1e-5}
PROBE = {"freeze": True, "batch_norm": True, "pool": "cls", "position": "sincos"}


def build(**model):
    return build_method("supervised.classify", {**MODEL, **model}, BATCH)


def drawn(num=8):
    return Draws.keyed(jax.random.key(0), jnp.asarray(tiny.positions(num)))


def loss_of(method, params, extra=None, batch=BATCH):
    terms, aux = method.phases[0].fn(params, extra or {}, batch, drawn(), 0, None)
    term = terms["classification"]
    return float(term.sum / term.weight), aux


def logits_of(method, params, batch=BATCH):
    return method.predict["classify"](params, {}, batch, drawn())["logits"]


@pytest.mark.parametrize("options", [{"pool": "gap"}, {"pool": "cls"}, SWIN])
def test_the_tree_is_the_one_that_weights_files_know(options):
    method = build(**options)
    params, extra = jax.eval_shape(method.init, jax.random.key(0), BATCH)
    shapes = {path: tuple(leaf.shape) for path, leaf in flatten(params).items()}
    assert shapes == param_shapes(geometry_from(method.describe["geometry"])) and not extra


@pytest.mark.parametrize("pool", ["gap", "cls"])
def test_logits_are_those_of_the_verified_classifier(pool):
    method = build(pool=pool)
    params = tiny.params(method, BATCH)
    image = method.predict["classify"](params, {}, BATCH, drawn())
    pixels = (BATCH["image"] / 255 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225]
    reference = Classifier(Size(16, 2, 2, 2.0), (4, 4), 7, pool)
    patches = patchify(jnp.float32(pixels), (2, 2))
    features, logits = reference.apply({"params": params}, patches)
    np.testing.assert_allclose(image["features"], features, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(image["logits"], logits, rtol=1e-4, atol=1e-5)


def test_the_loss_is_cross_entropy_smoothed_and_mixed():
    plain = build(**PLAIN)
    params = tiny.params(plain, BATCH)
    log_p = jax.nn.log_softmax(logits_of(plain, params))
    hard = -log_p[np.arange(8), BATCH["label"]].mean()
    assert loss_of(plain, params)[0] == pytest.approx(float(hard), rel=1e-5)
    smooth, _ = loss_of(build(**PLAIN | {"smoothing": 0.2}), params)
    assert smooth == pytest.approx(float(0.8 * hard - 0.2 * log_p.mean()), rel=1e-5)
    mixed, _ = loss_of(build(smoothing=0.0), params)
    pixels = (BATCH["image"] / 255 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225]
    targets = label_mixing.soft_labels(jnp.asarray(BATCH["label"]), 7)
    images, targets = label_mixing.mix(jnp.float32(pixels), targets, drawn())
    log_p = jax.nn.log_softmax(logits_of(plain, params, {"image": images}))
    assert mixed == pytest.approx(float(-(targets * log_p).sum(-1).mean()), rel=1e-4)
    assert mixed != pytest.approx(float(hard), rel=1e-2)


def test_a_swin_reads_the_mean_of_its_last_stage():
    method = build(**SWIN)
    params = tiny.params(method, BATCH)
    seen = method.predict["classify"](params, {}, BATCH, drawn())
    tokens = method.predict["encode"](params, {}, BATCH, drawn())
    np.testing.assert_allclose(seen["features"], tokens["mean"], rtol=1e-5, atol=1e-6)
    expected = tokens["mean"] @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(seen["logits"], expected, rtol=1e-4, atol=1e-5)


def test_a_probe_trains_its_head_only_and_keeps_running_statistics():
    method = build(**PLAIN, **PROBE)
    assert method.coupled
    optim = dataclasses.make_dataclass("Optim", [("name", str, "lars"), ("lr", float, 0.1)])()
    options = {"total_steps": 1, "steps_per_epoch": 1, "global_batch": 8}
    optimizer, _ = build_optimizer(optim, **options, method_groups=method.groups)
    state = create_state(method, {"main": optimizer}, jax.random.key(0), BATCH)
    assert "encoder" not in str(jax.tree_util.tree_structure(state.extra))
    before = jax.device_get(state)
    features = method.predict["encode"](state.params, state.extra, BATCH, drawn())["cls"]
    after, metrics = make_train_step(method, {"main": optimizer})(state, BATCH)
    old, new = flatten(before.params), flatten(jax.device_get(after.params))
    assert {name for name in old if (old[name] != new[name]).any()} == {"head/kernel", "head/bias"}
    start = (jnp.zeros(16), jnp.ones(16))
    mean, var = update_running_moments(start, batch_moments(features), 8)
    found = after.extra["batch_stats"]["batch_norm"]
    np.testing.assert_allclose(found["mean"], mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["var"], var, rtol=1e-4, atol=1e-6)
    assert float(metrics["top1"]) * 8 == round(float(metrics["top1"]) * 8)


@pytest.mark.parametrize("options", [{"pool": "attentive"}, {"pool": "mean", "hidden": 12}])
def test_other_probes_have_gradients_in_all_of_their_parts(options):
    method = build(**PLAIN, **{**PROBE, "batch_norm": False, **options})
    params = tiny.params(method, BATCH)

    def objective(params):
        return method.phases[0].fn(params, {}, BATCH, drawn(), 0, None)[0]["classification"].sum

    grads = flatten(jax.grad(objective)(params))
    assert all((np.abs(g).max() > 0) != name.startswith("encoder/") for name, g in grads.items())


def test_rates_and_decay_follow_the_fine_tuning_codes():
    method = build()
    params = jax.eval_shape(method.init, jax.random.key(0), BATCH)[0]
    cfg = dataclasses.make_dataclass("Optim", [("lr", float, 1.0), ("layer_decay", float, 0.5)])()
    rules = param_rules(cfg, method.groups, method.layers)
    rates, decays = flatten(rules.multipliers(params)), flatten(rules.decay_mask(params))
    assert rates["encoder/pos_embed"] == rates["encoder/patch_embed/kernel"] == 0.125
    assert np.ravel(rates["encoder/blocks/mlp/fc1/kernel"]).tolist() == [0.25, 0.5]
    assert rates["head/kernel"] == rates["fc_norm/scale"] == 1.0
    undecayed = {k for k, on in decays.items() if not on and not k.endswith(("bias", "scale"))}
    assert undecayed == {"encoder/pos_embed", "encoder/cls_token"}


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(2, 12))
def test_top_k_counts_what_a_sort_counts(seed, classes):
    rng = np.random.default_rng(seed)
    logits, label = (
        rng.permuted(np.tile(np.arange(float(classes)), (6, 1)), axis=1),
        rng.integers(0, classes, 6),
    )
    place = np.argsort(-logits, axis=1)
    rank = (place == label[:, None]).argmax(1)
    found = right_at(jnp.asarray(logits), jnp.asarray(label))
    for name, right in found.items():
        np.testing.assert_array_equal(right, rank < int(name[3:]))
    top1, top5, loss, count = measured(logits, label)
    assert (top1, top5, count) == ((rank < 1).sum(), (rank < 5).sum(), 6)
    log_p = jax.nn.log_softmax(jnp.asarray(logits))
    assert loss == pytest.approx(-float(log_p[np.arange(6), label].sum()), rel=1e-5)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_constant_and_broken_logits_are_wrong(value):
    logits, label = np.full((3, 7), value), np.zeros(3, int)
    found = right_at(jnp.asarray(logits), jnp.asarray(label))
    assert not any(right.any() for right in found.values())
    assert measured(logits, label)[:2].tolist() == [0, 0]


def test_what_does_not_fit_is_named():
    for options, words in (
        ({"pool": "max"}, "model.pool = 'max': one of gap"),
        ({**SWIN, "pool": "cls"}, "a swin has no class token"),
        ({**SWIN, "pool": "gap"}, "a swin wants no further norm"),
        ({"backbone": "vgg"}, "one of vit, swin, resnet, convnext"),
        ({"num_classes": 1}, r"num_classes = 1: must be a whole number, 2 or more"),
        ({"smoothing": 1.0}, "smoothing = 1.0"),
        ({"mixup": -1.0}, "config.model.mixup, cutmix, .*must not be negative"),
        ({"change": ("width=3",)}, "config.model: 'width=3' changes no geometry"),
        ({"relative": "shared"}, "must be none or layer"),
    ):
        with pytest.raises(UserError, match=words):
            build(**options)
    with pytest.raises(UserError, match="trains on image and label"):
        build_method("supervised.classify", MODEL, tiny.batch(8))


def test_labels_of_the_data_are_checked_before_training():
    config, _ = load_config("supervised/classify:demo", ["--config.model.num_classes=5"])
    with pytest.raises(UserError, match=r"num_classes = 5: .* has 18 classes"):
        data_parts.check_example(config, data_parts.data_source(config, "train"))
    config, _ = load_config("supervised/classify:demo", ["--config.data.path=synthetic:32x32x3:9"])
    with pytest.raises(UserError, match="has no labels"):
        data_parts.check_example(config, data_parts.data_source(config, "train"))


@pytest.mark.parametrize(
    "name",
    [
        "mae_b16",
        "mae_h14",
        "simmim_b16",
        "simmim_swin_l",
        "cae_b16",
        "dmae_b16",
        "scratch",
        "spark_convnext_s",
    ],
)
def test_official_recipes_build(name):
    config, _ = load_config(f"supervised/classify:{name}")
    parts = building.experiment(config, 1_281_167)
    assert parts.method.step_flops > 1e9 and parts.parameter_table()
