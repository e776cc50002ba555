"""Masks over modalities (MultiMAE), and over images of a mixed sequence (MixedAE)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from maskjax.masking import mixing, modalities
from maskjax.masking.modalities import ModalityNoise

SETTINGS = settings(max_examples=20, deadline=None, derandomize=True)
seeds = st.integers(0, 2**31)
COUNTS = (9, 4, 12)


def shown(split, counts=COUNTS):
    """How many tokens each modality shows."""
    parts = modalities.by_modality(~split.hidden(), counts)
    return np.stack([np.asarray(part).sum(-1) for part in parts], -1)


@SETTINGS
@given(seeds, st.sampled_from([0, 10, 25]))
def test_the_law_of_the_official_code(seed, num_visible):
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.ones(3)).astype(np.float32)
    keep, shuffle = rng.uniform(size=(2, 25)).astype(np.float32)
    split = modalities.dirichlet(
        ModalityNoise(shares, keep, shuffle), COUNTS, num_visible=num_visible
    )
    flags = np.concatenate(
        [
            (np.argsort(part, kind="stable") >= np.round(share * np.float32(num_visible)))
            for part, share in zip(np.split(keep, [9, 13]), shares, strict=True)
        ]
    )
    order = np.argsort(flags.astype(np.float32) + shuffle, kind="stable")
    np.testing.assert_array_equal(split.ids, order)
    assert shown(split).sum() == num_visible


def test_shares_that_fit_are_kept():
    noise = ModalityNoise(
        jnp.array([0.5, 0.2, 0.3]), *np.random.default_rng(0).uniform(size=(2, 25))
    )
    assert shown(modalities.dirichlet(noise, COUNTS, num_visible=10)).tolist() == [5, 2, 3]
    # More than a modality has: the others make up for it.
    noise = noise._replace(shares=jnp.array([0.0, 1.0, 0.0]))
    found = shown(modalities.dirichlet(noise, COUNTS, num_visible=10))
    assert found[1] == 4 and found.sum() == 10


@pytest.mark.parametrize("alpha", [0.05, 1.0, 1e4])
def test_alpha_goes_from_one_modality_to_equal_shares(alpha):
    draw = lambda key: modalities.dirichlet(key, (12, 12, 12), num_visible=12, alpha=alpha)  # noqa: E731
    counts = shown(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 1000)), (12,) * 3)
    assert (counts.sum(1) == 12).all()
    np.testing.assert_allclose(counts.mean(0), 4, atol=0.5)
    variance = 1 / 3 * 2 / 3 / (3 * alpha + 1) * 12**2
    np.testing.assert_allclose(counts.var(0), variance, rtol=0.15, atol=0.2)


def test_one_alpha_for_each_modality():
    draw = lambda key: modalities.dirichlet(key, (12, 12, 12), num_visible=12, alpha=(8, 4, 4))  # noqa: E731
    counts = shown(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 2000)), (12,) * 3)
    np.testing.assert_allclose(counts.mean(0), [6, 3, 3], atol=0.15)


def test_subsets_are_drawn_evenly():
    draw = lambda key: modalities.dirichlet(key, (9, 9), num_visible=9, alpha=1e4, subsets=True)  # noqa: E731
    counts = shown(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 3000)), (9, 9))
    kinds = {(9, 0): 0, (0, 9): 0, (4, 5): 0, (5, 4): 0}
    for row in counts.tolist():
        kinds[tuple(row)] += 1
    np.testing.assert_allclose([kinds[9, 0], kinds[0, 9]], 1000, atol=120)


@pytest.mark.parametrize("alpha", [0.03, 2.5, 40.0])
def test_shares_are_a_dirichlet_sample(alpha):
    alphas = jnp.array([alpha, 1.0, 2 * alpha])
    draw = jax.jit(jax.vmap(lambda key: modalities.dirichlet_shares(key, alphas)))
    shares = np.asarray(draw(jax.random.split(jax.random.key(1), 3000)))
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-5)
    for t, a in enumerate(alphas):
        law = stats.beta(float(a), float(alphas.sum() - a))
        for place in (1e-6, 1e-3, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999):
            chance = law.cdf(place)
            deviation = np.sqrt(chance * (1 - chance) / 3000)
            assert abs(np.mean(shares[:, t] <= place) - chance) <= 4.5 * deviation + 1e-3


def test_cutting_by_modality():
    np.testing.assert_array_equal(modalities.modality_of((2, 1, 3)), [0, 0, 1, 2, 2, 2])
    x = np.arange(12).reshape(2, 6)
    parts = modalities.by_modality(x, (2, 1, 3))
    assert [part.shape for part in parts] == [(2, 2), (2, 1), (2, 3)]
    np.testing.assert_array_equal(np.concatenate(parts, -1), x)
    with pytest.raises(ValueError, match="6 entries"):
        modalities.by_modality(x, (2, 2))


@SETTINGS
@given(seeds, st.sampled_from([(12, 1), (12, 4), (14, 4), (5, 5), (7, 3)]))
def test_images_partition_the_positions(seed, sizes):
    num, images = sizes
    noise = np.random.default_rng(seed).uniform(size=num).astype(np.float32)
    owner = np.asarray(mixing.groups_mix(noise, num, num_images=images))
    counts = np.bincount(owner, minlength=images)
    assert owner.dtype == np.int32 and len(counts) == images
    assert counts.max() - counts.min() <= (num % images > 0)
    if num % images == 0:
        expected = np.argsort(np.argsort(noise)) // (num // images)
        np.testing.assert_array_equal(owner, expected)
    hidden = np.asarray(mixing.hidden_of(owner, images))
    np.testing.assert_array_equal((~hidden).sum(0), 1)
    rows = np.asarray(mixing.cyclic(owner, images))
    np.testing.assert_array_equal(rows[0], owner)
    np.testing.assert_array_equal(np.sort(rows, 0), np.arange(images)[:, None].repeat(num, 1))


def test_mixing_takes_each_token_from_its_owner_and_back():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 3, 6, 4)), jnp.float32)
    owner = mixing.groups_mix(rng.uniform(size=(2, 6)), (2, 3), num_images=3)
    mixed = np.asarray(mixing.mix(x, owner))
    for b, i in np.ndindex(2, 6):
        np.testing.assert_array_equal(mixed[b, i], x[b, owner[b, i], i])
    token = jnp.full(4, 9.0)
    apart = np.asarray(mixing.unmix(mixed, owner, token, num_images=3))
    for b, g, i in np.ndindex(2, 3, 6):
        expected = mixed[b, i] if owner[b, i] == g else token
        np.testing.assert_array_equal(apart[b, g, i], expected)
    gradient = jax.grad(lambda x: mixing.mix(x, owner).sum())(x)
    mine = ~np.asarray(mixing.hidden_of(owner, 3))
    np.testing.assert_array_equal(gradient, np.broadcast_to(mine[..., None], x.shape))
    # What is not shown may be anything.
    dirty = mixing.mix(jnp.where(mine[..., None], x, jnp.nan), owner)
    np.testing.assert_array_equal(dirty, mixed)
    assert mixing.mix(x.astype(jnp.bfloat16), owner).dtype == jnp.bfloat16


def test_relabelling_images_changes_nothing():
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(4, 8, 2)), jnp.float32)
    owner = mixing.groups_mix(jax.random.key(0), 8, num_images=4)
    order = rng.permutation(4)
    relabelled = jnp.asarray(np.argsort(order))[owner]
    np.testing.assert_array_equal(mixing.mix(x[order], relabelled), mixing.mix(x, owner))
    np.testing.assert_array_equal(mixing.same_owner(relabelled), mixing.same_owner(owner))
    assert mixing.same_owner(owner).sum() == 4 * 2**2


def test_mixing_errors():
    with pytest.raises(AssertionError):
        mixing.mix(jnp.ones((2, 3, 6, 4)), jnp.zeros((3, 6), int))
    with pytest.raises(AssertionError):
        mixing.unmix(jnp.ones((6, 4)), jnp.zeros(5, int), jnp.ones(4), num_images=2)
