"""Projection heads: the invariants of the sheet."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskjax.losses import supervised_contrastive
from maskjax.nn.projection import KINDS, ProjectionHead, reweights, symmetric_relu

Z = jnp.asarray(np.random.default_rng(0).normal(size=(12, 8)), jnp.float32)
LABELS = jnp.arange(12) % 3


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_and_what_is_trained(kind):
    head = ProjectionHead(kind, 16, 4)
    variables = head.init(jax.random.key(0), Z)
    wide = kind in ("none", "identity", "reweight")
    assert head.apply(variables, Z).shape == (12, 8 if wide else 4)
    layers = {"linear": 1, "mlp": 2, "mlp3": 3, "identity": 2}.get(kind, 0)
    names = {f"layer{i}" for i in range(layers)} | ({"shift"} if kind == "identity" else set())
    assert set(variables.get("params", {})) == names


def test_1_a_head_that_starts_as_the_identity_is_it():
    head = ProjectionHead("identity")
    variables = head.init(jax.random.key(0), Z)
    np.testing.assert_allclose(head.apply(variables, Z), Z, rtol=1e-6)
    shifted = symmetric_relu(jnp.array([-2.0, -0.5, 0.5, 2.0]), jnp.float32(1.0))
    assert shifted.tolist() == [-1, 0, 0, 1]


def test_2_fixed_weights_fall_and_are_no_head_at_kappa_1():
    np.testing.assert_array_equal(ProjectionHead("reweight", kappa=1.0).apply({}, Z), Z)
    weights = reweights(5, 2.0)
    assert weights.tolist() == [1, 0.5, 0.25, 0.125, 0.0625]
    found = ProjectionHead("reweight", kappa=2.0).apply({}, Z[:, :5])
    np.testing.assert_allclose(found, Z[:, :5] * weights)


def test_3_the_loss_sees_weights_of_coordinates_but_no_common_scale():
    loss = lambda z, labels=LABELS: supervised_contrastive(z, labels, 0.5).mean()  # noqa: E731
    order = np.random.default_rng(1).permutation(12)
    np.testing.assert_allclose(loss(Z[order], LABELS[order]), loss(Z), rtol=1e-5)
    np.testing.assert_allclose(loss(7 * Z), loss(Z), rtol=1e-5)
    assert abs(float(loss(Z * reweights(8, 1.5)) - loss(Z))) > 1e-2


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_4_perfect_clusters_have_the_analytic_loss(temperature):
    z = jnp.eye(3)[LABELS]
    found = supervised_contrastive(z, LABELS, temperature).mean()
    expected = -1 / temperature + np.log(3 * np.exp(1 / temperature) + 8)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_5_6_two_linear_layers_share_the_weights_of_features_evenly():
    """The spectral contrastive loss of the paper's theory: W2 W1 ends at |1 - 2 alpha| / phi on the
    p best features, and W1, from a small start, at the square root of that."""
    phi, alpha = np.array([1, 0.8, 1.2, 0.6, 0.9]), np.array([0.05, 0.1, 0.3, 0.2, 0.02])
    share = np.abs(1 - 2 * alpha)
    rng = np.random.default_rng(0)
    layers = [jnp.asarray(0.03 * rng.normal(size=shape)) for shape in ((3, 5), (3, 3))]

    def loss(layers):
        # Views have features phi_i s_i; each flips the sign s_i with probability alpha_i.
        w = layers[1] @ layers[0] * phi
        gram = w.T @ w
        return -2 * (jnp.diag(gram) * share**2).sum() + jnp.square(gram).sum()

    def step(layers, _):
        return jax.tree.map(lambda w, g: w - 0.03 * g, layers, jax.grad(loss)(layers)), None

    first, second = jax.lax.scan(step, layers, length=40_000)[0]
    post, pre = (np.linalg.svd(np.asarray(w), compute_uv=False) for w in (second @ first, first))
    np.testing.assert_allclose(pre, np.sqrt(post), atol=1e-2)
    best = np.argsort(-share)[:3]
    np.testing.assert_allclose(post, np.sort(share[best] / phi[best])[::-1], atol=1e-2)
