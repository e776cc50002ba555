"""MTO (our reconstruction): the invariants of its sheet, on the losses and on a stack of blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from ml_collections import ConfigDict

from maskjax import losses
from maskjax.errors import UserError
from maskjax.losses import mask_tokens
from maskjax.nn.vit import Compute, Size
from maskjax.pretext import token_optimization as mto

RNG = np.random.default_rng(0)
DIM, DEPTH = 16, 4
STACK = Compute(scan=False).stack(Size(DIM, DEPTH, 2, 2.0))
X = jnp.asarray(RNG.normal(size=(3, 9, DIM)), jnp.float32)
# cls in front: neither visible nor hidden.
HIDDEN = jnp.asarray([[0, 1, 1, 1, 1, 0, 0, 0, 0]] * 3, bool)
VISIBLE = jnp.asarray([[0, 0, 0, 0, 0, 1, 1, 1, 1]] * 3, bool)
SCORES = jnp.asarray(RNG.normal(size=(3, 2, 9, 9)), jnp.float32)


def optimization(**changes):
    cfg = ConfigDict({**mto.DEFAULTS, "on": True, **changes})
    return mto.token_optimization(cfg, DEPTH, 100)


@pytest.fixture(scope="module")
def params():
    return tiny.filled(jax.eval_shape(lambda key: STACK.init(key, DIM), jax.random.key(0)))


def run(params, x, plan):
    bias, probes = plan.bias(VISIBLE, HIDDEN), plan.probes(VISIBLE, HIDDEN)
    return STACK(params, x, taps=("attention", "block"), bias=bias, probes=probes)


def test_1_with_weights_and_beta_zero_nothing_changes(params):
    plan = optimization(sparsity=0.0, singularity=0.0, restoration=0.0, beta=0.0)
    out, seen = jax.jit(lambda p: run(p, X, plan))(params)
    plain, _ = jax.jit(lambda p: STACK(p, X))(params)
    np.testing.assert_array_equal(out, plain)
    assert set(seen) == {"attention", "block"}
    assert plan.terms(seen, VISIBLE, HIDDEN, jnp.int32(50)) == {}
    assert mto.token_optimization(ConfigDict(mto.DEFAULTS), DEPTH, 100) is None


def test_2_evenness_goes_from_0_to_1():
    same = jnp.ones((1, 9, 9)) * 0.3
    visible = VISIBLE[:1]
    np.testing.assert_allclose(mask_tokens.evenness(same, visible), 1, rtol=1e-6)
    one = same.at[..., 5].set(1.0)
    values = [float(mask_tokens.evenness(one, visible, t)[0, 1]) for t in (1.0, 0.1, 0.01)]
    assert 1 > values[0] > values[1] > values[2]
    assert values[2] < 1e-6
    everywhere = mask_tokens.evenness(mask_tokens.affinity(X), VISIBLE)
    assert ((everywhere >= 0) & (everywhere <= 1 + 1e-6)).all()


def test_3_recalibrated_rows_are_distributions_and_other_rows_are_as_they_were():
    bias = mask_tokens.recalibration(VISIBLE, HIDDEN, -3.0)[:, None]
    before, after = jax.nn.softmax(SCORES, -1), jax.nn.softmax(SCORES + bias, -1)
    np.testing.assert_allclose(after.sum(-1), 1, rtol=1e-6)
    np.testing.assert_allclose(before[:, :, :5], after[:, :, :5], rtol=1e-6)  # cls, mask tokens
    ratio = after[:, :, 5:, 5:] / before[:, :, 5:, 5:]
    np.testing.assert_allclose(ratio, ratio[..., :1] * np.ones(4), rtol=1e-4)
    assert (after[:, :, 5:, 1:5] < before[:, :, 5:, 1:5]).all()


def test_4_at_the_limit_visible_tokens_do_not_see_mask_tokens(params):
    plan = optimization(beta=1e6)
    layer = jax.jit(lambda x: STACK(params, x, bias=plan.bias(VISIBLE, HIDDEN), taps=("block/0",)))
    other = jnp.where(HIDDEN[..., None], -X, X)
    one, two = (np.asarray(layer(x)[1]["block/0"]) for x in (X, other))
    np.testing.assert_allclose(one[:, 5:], two[:, 5:], rtol=1e-5, atol=1e-6)
    assert not np.allclose(one[:, 0], two[:, 0])


def test_4_the_last_layer_is_left_alone():
    bias = optimization(beta=4.0).bias(VISIBLE, HIDDEN)
    strengths = [float(bias(jnp.int32(layer)).min()) for layer in range(DEPTH)]
    assert strengths == [-3.0, -2.0, -1.0, 0.0]


def test_5_singularity_moves_mask_tokens_only_and_the_others_reach_the_scores():
    loss = lambda x: mask_tokens.singularity_loss(x, VISIBLE)[HIDDEN].sum()  # noqa: E731
    gradient = np.asarray(jax.grad(loss)(X))
    assert (gradient[:, 5:] == 0).all()
    assert (gradient[:, 1:5] != 0).any()

    def of_scores(fn, mask):
        values = lambda s: jnp.where(mask, fn(jax.nn.softmax(s, -1), mask), 0).sum()  # noqa: E731
        return np.asarray(jax.grad(values)(SCORES))

    def restoration(a, _):
        return mask_tokens.restoration_loss(a, VISIBLE)

    def sparsity(a, _):
        return mask_tokens.sparsity_loss(a, HIDDEN, True)

    assert (of_scores(restoration, HIDDEN[:, None])[:, :, 1:5, 5:] != 0).all()
    assert (of_scores(sparsity, VISIBLE[:, None])[:, :, 5:] != 0).all()


def test_6_the_order_of_visible_tokens_and_the_batch_do_not_matter(params):
    plan = optimization()
    order = np.array([0, 1, 2, 3, 4, 7, 5, 8, 6])
    found = jax.jit(lambda p, x: run(p, x, plan)[1])
    one, two = found(params, X), found(params, X[:, order])
    for name in ("mto_singularity", "mto_restoration", "mto_sparsity"):
        assert one[name].shape == (DEPTH, 3)
        np.testing.assert_allclose(one[name], two[name], rtol=1e-4)


def test_7_a_step_on_singularity_alone_raises_heterogeneity():
    het = lambda x: float(mask_tokens.heterogeneity(x, VISIBLE)[HIDDEN].mean())  # noqa: E731
    loss = jax.jit(jax.grad(lambda x: mask_tokens.singularity_loss(x, VISIBLE)[HIDDEN].mean()))
    assert het(X - 1.0 * loss(X)) > het(X)
    stepped = X
    for _ in range(100):
        stepped = stepped - 5.0 * loss(stepped)
    assert het(stepped) > het(X) + 0.1


def test_terms_are_means_over_tokens_and_layers_with_a_warm_up(params):
    plan = optimization(beta=0.0)
    seen = jax.jit(lambda p: run(p, X, plan)[1])(params)
    terms = plan.terms(seen, VISIBLE, HIDDEN, jnp.int32(2))
    singular = [
        float(mask_tokens.singularity_loss(x, VISIBLE)[HIDDEN].mean()) for x in seen["block"][:1]
    ]
    restored = [
        float(jnp.moveaxis(mask_tokens.restoration_loss(a, VISIBLE), 1, 2)[HIDDEN].mean())
        for a in seen["attention"][2:]
    ]
    sparse = [
        float(jnp.moveaxis(mask_tokens.sparsity_loss(a, HIDDEN, i < 1), 1, 2)[VISIBLE].mean())
        for i, a in enumerate(seen["attention"])
    ]
    expected = {"singularity": singular, "restoration": restored, "sparsity": sparse}
    for name, values in expected.items():
        term = terms[f"mto_{name}"]
        np.testing.assert_allclose(term.sum / term.weight, np.mean(values), rtol=1e-4)
        assert term.coefficient == pytest.approx(0.4 * mto.DEFAULTS[name])  # step 2 of 5
    assert losses.total(terms) > 0
    late = plan.terms(seen, VISIBLE, HIDDEN, jnp.int32(80))
    assert late["mto_sparsity"].coefficient == pytest.approx(mto.DEFAULTS["sparsity"])


@pytest.mark.parametrize(
    ("key", "value"), [("beta", -1.0), ("temperature", 0.0), ("early", 1.5), ("sparsity", -0.1)]
)
def test_errors_name_the_config_path(key, value):
    with pytest.raises(UserError, match=rf"config\.model\.mto\.{key} = "):
        optimization(**{key: value})
