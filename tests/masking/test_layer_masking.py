"""Layer masking: the invariants of the paper's sheet, for its layers and for a small ResNet."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskjax.masking import neighbour
from maskjax.masking.neighbour import layer_conv, neighbour_fill
from maskjax.masking.windows import window
from maskjax.nn.masked_resnet import MaskedResNet

SHAPE = (2, 9, 10, 3)
PLACE = window(5, stride=2, padding=2)
KERNEL = np.random.default_rng(1).normal(size=(5, 5, 3, 4)).astype(np.float32)
BIAS = np.arange(4, dtype=np.float32)
FILLS = ("neighbour", "zero", "partial")


def images(seed=0, share=0.15):
    rng = np.random.default_rng(seed)
    x = rng.normal(1, 1, SHAPE).astype(np.float32)
    valid = rng.uniform(size=SHAPE[:3]) < share
    valid[:, 4, 5] = True
    return x, valid


def fill_by_hand(x, valid, num_passes, eps=1e-5):
    """Ring by ring, cell by cell."""
    x, known = np.where(valid[..., None], x, 0).astype(float), valid.copy()
    for _ in range(num_passes):
        before, now = x.copy(), known.copy()
        for b, i, j in zip(*np.nonzero(~known), strict=True):
            around = [
                (y, z)
                for y in range(max(i - 1, 0), min(i + 2, SHAPE[1]))
                for z in range(max(j - 1, 0), min(j + 2, SHAPE[2]))
                if known[b, y, z]
            ]
            if around:
                x[b, i, j] = sum(before[b][cell] for cell in around) / (len(around) + eps)
                now[b, i, j] = True
        known = now
    return x, known


@pytest.mark.parametrize("num_passes", [0, 1, 2, 4])
def test_filling(num_passes):
    x, valid = images()
    found, known = neighbour_fill(x, valid, num_passes=num_passes)
    expected, where = fill_by_hand(x, valid, num_passes)
    np.testing.assert_array_equal(known, where)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(found)[valid], x[valid])
    assert not np.asarray(found)[~where].any()
    more, _ = neighbour_fill(x, valid, num_passes=num_passes + 1)
    np.testing.assert_array_equal(np.asarray(more)[where], np.asarray(found)[where])


def test_a_constant_is_continued_as_nearly_the_same_constant():
    x, valid = images()
    found, known = neighbour_fill(np.full_like(x, 2.5), valid, num_passes=4)
    np.testing.assert_allclose(np.asarray(found)[np.asarray(known)], 2.5, rtol=5e-5)


def test_no_gradient_flows_through_the_filling():
    x, valid = images()
    weight = np.random.default_rng(2).normal(size=SHAPE).astype(np.float32)
    gradient = jax.grad(lambda x: (neighbour_fill(x, valid, num_passes=3)[0] * weight).sum())(x)
    np.testing.assert_array_equal(gradient, np.where(valid[..., None], weight, 0))


def test_as_many_passes_as_the_window_reaches_are_enough():
    x, valid = images(share=0.05)
    y, seen = layer_conv(x, valid, KERNEL, BIAS, window=PLACE)
    filled, _ = neighbour_fill(x, valid, num_passes=9)
    more, _ = layer_conv(filled, np.ones_like(valid), KERNEL, BIAS, window=PLACE)
    visible = np.asarray(seen)
    assert not visible.all()
    np.testing.assert_allclose(np.asarray(y)[visible], np.asarray(more)[visible], atol=1e-5)
    less, _ = neighbour_fill(x, valid, num_passes=2)
    less, _ = layer_conv(less, np.ones_like(valid), KERNEL, BIAS, window=PLACE)
    assert not np.isclose(np.asarray(y)[visible], np.asarray(less)[visible], atol=1e-3).all()


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("rubbish", [1e6, np.nan])
def test_hidden_content_reaches_neither_results_nor_gradients(fill, rubbish):
    x, valid = images()
    dirty = np.where(valid[..., None], x, np.float32(rubbish))

    def total(x):
        y, seen = layer_conv(x, valid, KERNEL, BIAS, window=PLACE, fill=fill)
        return jnp.square(y).sum(), (y, seen)

    run = jax.jit(jax.value_and_grad(total, has_aux=True))
    ((_, (y, seen)), gradient), (_, expected) = run(dirty), run(x)
    np.testing.assert_array_equal(gradient, expected)
    assert (np.asarray(gradient)[~valid] == 0).all()
    assert (np.asarray(y)[~np.asarray(seen)] == 0).all()


@pytest.mark.parametrize("fill", ["neighbour", "zero"])
def test_with_everything_visible_it_is_the_plain_convolution(fill):
    x, valid = images()
    y, seen = layer_conv(x, np.ones_like(valid), KERNEL, BIAS, window=PLACE, fill=fill)
    plain, _ = layer_conv(x, np.ones_like(valid), KERNEL, BIAS, window=PLACE, fill="zero")
    assert seen.all()
    np.testing.assert_array_equal(y, plain)


def test_joins_where_both_are_visible():
    x, valid = images()
    other = np.roll(valid, 1, 1)
    y, seen = neighbour.join((x, valid), (2 * x, other))
    np.testing.assert_array_equal(seen, valid & other)
    np.testing.assert_allclose(y, np.where((valid & other)[..., None], 3 * x, 0), rtol=1e-6)


def test_errors():
    x, valid = images()
    with pytest.raises(ValueError, match="num_passes must be >= 0"):
        neighbour_fill(x, valid, num_passes=-1)
    with pytest.raises(ValueError, match="got 'mean'"):
        layer_conv(x, valid, KERNEL, window=PLACE, fill="mean")


MODEL = MaskedResNet((3, 4), (1, 2), 5, 8, 4, style="neighbour")


@pytest.fixture(scope="module")
def network():
    """Variables with nothing at 0 or 1, and a compiled call."""
    rng = np.random.default_rng(0)
    variables = jax.jit(MODEL.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    shift = lambda p: np.asarray(p) + np.float32(0.1) * rng.random(p.shape, np.float32)  # noqa: E731
    variables = jax.tree.map(shift, variables)
    return variables, jax.jit(MODEL.apply)


def photographs(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, 48, 48, 3)).astype(np.float32)
    valid = np.zeros((2, 48, 48), bool)
    valid[0, 8:24, 16:32] = valid[1, 30:, :13] = True
    return x, valid


def test_network_with_everything_visible_is_the_plain_network(network):
    (variables, run), (x, valid) = network, photographs()
    plain, _ = run(variables, x, None)
    masked, _ = run(variables, x, np.ones_like(valid))
    np.testing.assert_allclose(masked, plain, rtol=1e-5, atol=1e-5)


def test_network_sees_the_visible_region_only(network):
    (variables, run), (x, valid) = network, photographs()
    logits, seen = run(variables, x, valid)
    dirty, _ = run(variables, np.where(valid[..., None], x, 77), valid)
    np.testing.assert_array_equal(dirty, logits)
    other, _ = run(variables, np.where(valid[..., None], 77, x), valid)
    assert not np.isclose(other, logits).any()
    for name, (activation, where) in seen.items():
        if where is not None:
            assert where.dtype == bool
            assert not np.asarray(activation)[~np.asarray(where)].any(), name


def test_nothing_visible_gives_the_bias_of_the_classifier(network):
    (variables, run), (x, valid) = network, photographs()
    logits, _ = run(variables, x, np.zeros_like(valid))
    np.testing.assert_array_equal(logits, np.tile(variables["params"]["head"]["bias"], (2, 1)))


def test_translation_by_the_total_stride_translates_the_last_map(network):
    (variables, run), (x, valid) = network, photographs()
    move = lambda a: np.roll(a, (8, 8), (1, 2))  # noqa: E731
    inside = np.zeros_like(valid)
    inside[:, 16:24, 16:24] = True
    (before, where), (after, there) = (
        run(variables, a, v)[1]["stage2"] for a, v in ((x, inside), (move(x), move(inside)))
    )
    np.testing.assert_array_equal(there[:, 1:, 1:], where[:, :-1, :-1])
    np.testing.assert_allclose(after[:, 1:, 1:], before[:, :-1, :-1], atol=1e-4)
