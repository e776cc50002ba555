"""MTO's formulas (our reconstruction) where mask tokens stand apart from what they look at.

Where they stand among the visible tokens: tests/pretext/test_token_optimization.py.
"""

import jax
import jax.numpy as jnp
import numpy as np

from maskjax.losses import mask_tokens

VISIBLE = jnp.asarray([True, False, True, True, False, True])
HIDDEN = ~VISIBLE
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(6, 5)), jnp.float32)
ATTENTION = jax.nn.softmax(jnp.asarray(RNG.normal(size=(2, 6, 6)), jnp.float32), -1)


def apart(x, sources):
    return mask_tokens.singularity_loss(x, jnp.ones(len(sources), bool), sources=sources)


def test_the_losses_are_the_same_ones():
    whole = mask_tokens.singularity_loss(X, VISIBLE)[HIDDEN]
    np.testing.assert_allclose(apart(X[HIDDEN], X[VISIBLE]), whole, rtol=1e-5)
    whole = mask_tokens.restoration_loss(ATTENTION, VISIBLE)[:, HIDDEN]
    rows = mask_tokens.restoration_loss(ATTENTION[:, HIDDEN], VISIBLE)
    np.testing.assert_array_equal(rows, whole)


def test_5_singularity_moves_mask_tokens_only():
    moved, still = jax.grad(lambda *args: apart(*args).sum(), (0, 1))(X[HIDDEN], X[VISIBLE])
    assert (moved != 0).any(-1).all()
    assert (still == 0).all()
