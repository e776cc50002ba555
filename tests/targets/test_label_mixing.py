"""mixup and CutMix: laws, labels, and the same numbers on any number of devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hlo import collectives
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from maskjax.errors import UserError
from maskjax.masking import Draws
from maskjax.targets.label_mixing import Mixing, cut_boxes, mix, partners, shares, soft_labels

SIZE, CLASSES = (12, 10), 5


def positions(batch, start=0):
    return jnp.stack([jnp.zeros(batch), start + jnp.arange(batch)], 1).astype(jnp.uint32)


def drawn(batch, seed=0, start=0):
    return Draws.keyed(jax.random.key(seed), positions(batch, start))


def given(batch):
    """Images whose every pixel is the row's number, and its label as a target."""
    images = jnp.broadcast_to(jnp.arange(batch)[:, None, None, None], (batch, *SIZE, 3))
    return images.astype(jnp.float32), soft_labels(jnp.arange(batch) % CLASSES, CLASSES)


def test_soft_labels():
    hard = np.eye(4)[[2, 0]]
    np.testing.assert_allclose(soft_labels(jnp.array([2, 0]), 4), hard)
    smooth = np.asarray(soft_labels(jnp.array([2, 0]), 4, 0.1))
    np.testing.assert_allclose(smooth, hard * 0.9 + 0.025, rtol=1e-6)
    np.testing.assert_allclose(smooth.sum(1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    "stride, expected", [(1, [1, 0, 3, 2, 5, 4, 7, 6]), (2, [2, 3, 0, 1, 6, 7, 4, 5])]
)
def test_partners(stride, expected):
    assert partners(jnp.arange(8), stride).tolist() == expected


def test_partners_need_whole_blocks():
    with pytest.raises(UserError, match="must be a multiple of 4, found 6"):
        partners(jnp.arange(6), 2)


@pytest.mark.parametrize("mixing", [Mixing(cutmix=0), Mixing(mixup=0), Mixing(), Mixing(stride=4)])
def test_pixels_and_labels_are_mixed_by_the_same_share(mixing):
    """With constant images the mean pixel says what the labels must say."""
    images, targets = given(16)
    mixed, labels = mix(images, targets, drawn(16), mixing)
    own = np.arange(16)
    other = np.asarray(partners(jnp.arange(16), mixing.stride))
    share = (np.asarray(mixed).mean((1, 2, 3)) - other) / (own - other)
    eye = np.eye(CLASSES)
    expected = share[:, None] * eye[own % CLASSES] + (1 - share)[:, None] * eye[other % CLASSES]
    np.testing.assert_allclose(labels, expected, atol=1e-5)
    assert np.ptp(share) > 0.3


def test_cutmix_takes_a_box_and_mixup_all_pixels():
    images, targets = given(32)
    other = np.asarray(partners(jnp.arange(32)))
    mixed = np.asarray(mix(images, targets, drawn(32), Mixing(mixup=0))[0])[..., 0]
    for row in range(32):
        foreign = mixed[row] == other[row]
        assert (foreign | (mixed[row] == row)).all()
        assert np.array_equal(foreign, foreign.any(1)[:, None] & foreign.any(0))  # a rectangle
    blended = np.asarray(mix(images, targets, drawn(32), Mixing(cutmix=0))[0])
    assert (np.ptp(blended, axis=(1, 2, 3)) == 0).all()


def test_law_of_the_shares():
    """Beta(a, a) of each kind; half of the examples are cut; some are left alone."""
    share, cut = map(np.asarray, shares(drawn(20000), Mixing(0.8, 2.0, prob=0.75)))
    alone = share == 1
    assert abs(alone.mean() - 0.25) < 0.012
    assert abs(cut.mean() - 0.375) < 0.012
    for kind, a in ((cut, 2.0), (~cut & ~alone, 0.8)):
        values = share[kind]
        assert scipy.stats.kstest(values, scipy.stats.beta(a, a).cdf).pvalue > 0.01


def test_law_of_the_boxes():
    """Sides of the image times sqrt(1 - share), rounded down; centres anywhere; area as clipped."""
    share = jnp.full(4000, 0.75)
    inside, area = map(np.asarray, cut_boxes(drawn(4000), share, (40, 60)))
    np.testing.assert_allclose(area, inside.mean((1, 2)), atol=1e-6)
    heights, widths = inside.any(2).sum(1), inside.any(1).sum(1)
    assert (heights.max(), widths.max()) == (20, 30)
    # A centre is uniform over the rows: a quarter of the boxes is clipped at either end.
    assert abs((heights < 20).mean() - 0.475) < 0.03
    centre = (inside * np.arange(40)[:, None]).sum((1, 2)) / inside.sum((1, 2))
    assert abs(centre.mean() - 19.5) < 0.5
    assert not np.asarray(cut_boxes(drawn(8), jnp.ones(8), (40, 60))[0]).any()


def test_an_example_gets_the_same_numbers_in_every_batch():
    long, short = shares(drawn(16), Mixing()), shares(drawn(4, start=8), Mixing())
    for a, b in zip(long, short, strict=True):
        assert np.array_equal(a[8:12], b)


@pytest.mark.parametrize("rows, sent", [(16, False), (8, True)])
def test_sharded_equals_unsharded(rows, sent):
    """Whole pairs on a device: nothing is sent. Half a pair: an exchange, the same numbers."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    split = NamedSharding(mesh, PartitionSpec("data"))
    images, targets = given(rows)
    images += jax.random.normal(jax.random.key(3), images.shape)

    def run(images, targets, position):
        return mix(images, targets, Draws.keyed(jax.random.key(1), position))

    arguments = (images, targets, positions(rows))
    expected = jax.jit(run)(*arguments)
    jitted = jax.jit(run, in_shardings=split, out_shardings=split)
    placed = tuple(jax.device_put(a, split) for a in arguments)
    for a, b in zip(jitted(*placed), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    text = jitted.lower(*placed).compile().as_text()
    assert bool(collectives(text)) == sent


def test_types():
    images, targets = given(4)
    run = functools.partial(mix, draws=drawn(4))
    half = run(images.astype(jnp.bfloat16), targets)[0]
    assert half.dtype == jnp.bfloat16
    with pytest.raises(AssertionError):
        run(images.astype(jnp.uint8), targets)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"mixup": -1}, "mixup and cutmix must not be negative"),
        ({"prob": 1.5}, r"prob and switch_prob must be in 0 .. 1, found 1.5, 0.5"),
        ({"stride": 0}, "stride must be at least 1"),
    ],
)
def test_values_are_checked(options, message):
    with pytest.raises(UserError, match=message):
        Mixing(**options)
