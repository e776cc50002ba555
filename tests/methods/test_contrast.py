"""Training through a head: losses, what stands before and after it, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from maskjax.errors import UserError
from maskjax.losses import supervised_contrastive
from maskjax.masking import Draws
from maskjax.method import build_method

BATCH = {**tiny.batch(8), "label": np.arange(8, dtype=np.int32) % 2}
MODEL = {
    "image_size": (8, 8),
    "patch_size": 2,
    "backbone": "vit",
    "encoder": {"dim": 16, "depth": 1, "heads": 2, "mlp_ratio": 2.0},
    "hidden": 12,
    "features": 6,
}


def build(batch=BATCH, **model):
    return build_method("supervised.contrast", {**MODEL, **model}, batch)


def run(method, params, batch=BATCH):
    draws = Draws.keyed(jax.random.key(0), jnp.asarray(tiny.positions(8)))
    terms, aux = method.phases[0].fn(params, {}, batch, draws, 0, None)
    (term,) = terms.values()
    return float(term.sum / term.weight), method.predict["encode"](params, {}, batch, draws), aux


def test_the_loss_sees_what_comes_after_the_head():
    method = build()
    params = tiny.params(method, BATCH)
    loss, seen, _ = run(method, params)
    assert (seen["mean"].shape, seen["cls"].shape) == ((8, 16), (8, 6)) and method.coupled
    expected = supervised_contrastive(seen["cls"], jnp.asarray(BATCH["label"]), 0.5).mean()
    assert loss == pytest.approx(float(expected), rel=1e-4)


def test_views_of_an_example_are_the_classes_of_nt_xent():
    batch = tiny.batch(8)
    method = build(batch, loss="nt_xent", views=2, num_classes=0)
    params = tiny.params(method, batch)
    loss, seen, _ = run(method, params, batch)
    expected = supervised_contrastive(seen["cls"], jnp.arange(8) // 2, 0.5).mean()
    assert loss == pytest.approx(float(expected), rel=1e-4)


def test_cross_entropy_and_a_head_with_nothing_to_train():
    method = build(loss="cross_entropy", head="reweight", kappa=1.5)
    params = tiny.params(method, BATCH)
    assert set(params) == {"encoder", "classifier"} and not method.coupled
    loss, seen, aux = run(method, params)
    np.testing.assert_allclose(seen["cls"], seen["mean"] * 1.5 ** -np.arange(16.0), rtol=1e-5)
    logits = seen["cls"] @ params["classifier"]["kernel"] + params["classifier"]["bias"]
    log_p = jax.nn.log_softmax(logits)
    assert loss == pytest.approx(-float(log_p[np.arange(8), BATCH["label"]].mean()), rel=1e-4)
    assert float(aux["top1"].sum) == (logits.argmax(-1) == BATCH["label"]).sum()


def test_what_does_not_fit_is_named():
    for options, words in (
        ({"loss": "simclr"}, "model.loss = 'simclr': one of supcon"),
        ({"head": "deep"}, "model.head = 'deep': one of none"),
        ({"temperature": 0.0}, "temperature = 0.0: must be positive"),
        ({"loss": "nt_xent"}, "nt_xent needs two or more"),
    ):
        with pytest.raises(UserError, match=words):
            build(**options)
    with pytest.raises(UserError, match="trains on image and label"):
        build(tiny.batch(8))
