"""Masked convolution, partial convolution and pooling against loops over windows in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskjax.masking import conv, pool, windows
from maskjax.masking.windows import window

RNG = np.random.default_rng(0)
SHAPE = (3, 7, 8, 4)
PLACES = {
    "3x3": window(3, padding=1),
    "7x7, stride 2": window(7, stride=2, padding=3),
    "4x4, stride 4": window(4, stride=4),
    "1x1, stride 2": window(1, stride=2),
    "3x2, uneven": window((3, 2), stride=(1, 2), padding=(0, 1), dilation=(2, 1)),
    "2x2, same": window(2, padding="same"),
}
RULES = ("centre", "any", "all")


def images(seed=0, share=0.5):
    """x and valid, the last example without anything visible."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=SHAPE).astype(np.float32)
    valid = rng.uniform(size=SHAPE[:3]) < share
    valid[-1] = False
    return x, valid


def kernel_for(place, groups=1, features=6):
    shape = (*place.size, SHAPE[3] // groups, features)
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


BIAS = RNG.normal(size=6).astype(np.float32)


def taps(place, i, j):
    """(tap, cell) of each window position that lies in the image."""
    for a, b in np.ndindex(place.size):
        y = i * place.stride[0] - place.padding[0][0] + a * place.dilation[0]
        x = j * place.stride[1] - place.padding[1][0] + b * place.dilation[1]
        if 0 <= y < SHAPE[1] and 0 <= x < SHAPE[2]:
            yield (a, b), (y, x)


def each_window(place):
    for i, j in np.ndindex(place.out_size(SHAPE[1:3])):
        found = list(taps(place, i, j))
        yield i, j, [tap for tap, _ in found], [cell for _, cell in found]


def masks_by_hand(valid, place):
    """{rule: bool[B, H', W']}."""
    size = (SHAPE[0], *place.out_size(SHAPE[1:3]))
    found = {rule: np.zeros(size, bool) for rule in RULES}
    for i, j, _, cells in each_window(place):
        for b in range(SHAPE[0]):
            inside = [valid[b][cell] for cell in cells]
            found["any"][b, i, j], found["all"][b, i, j] = any(inside), all(inside)
            y = i * place.stride[0] - place.padding[0][0]
            x = j * place.stride[1] - place.padding[1][0]
            y += (place.size[0] - 1) // 2 * place.dilation[0]
            x += (place.size[1] - 1) // 2 * place.dilation[1]
            y, x = min(max(y, 0), SHAPE[1] - 1), min(max(x, 0), SHAPE[2] - 1)
            found["centre"][b, i, j] = valid[b, y, x]
    return found


def conv_by_hand(x, valid, kernel, place, groups=1):
    """Sum over visible cells only, and their number; a gather, not a dense product."""
    size, features = place.out_size(SHAPE[1:3]), kernel.shape[-1]
    out, counts = np.zeros((SHAPE[0], *size, features)), np.zeros((SHAPE[0], *size))
    width = SHAPE[3] // groups
    for i, j, where, cells in each_window(place):
        for b in range(SHAPE[0]):
            for tap, cell in zip(where, cells, strict=True):
                if valid[b][cell]:
                    counts[b, i, j] += 1
                    for o in range(features):
                        first = o // (features // groups) * width
                        seen = x[b][cell][first : first + width].astype(float)
                        out[b, i, j, o] += seen @ kernel[tap][:, o]
    return out, counts


@pytest.mark.parametrize("name", PLACES)
def test_masks_after_a_window(name):
    place, (_, valid) = PLACES[name], images()
    expected = masks_by_hand(valid, place)
    for rule in RULES:
        found = windows.out_valid(valid, place, rule)
        np.testing.assert_array_equal(found, expected[rule], err_msg=rule)
    everything = np.ones_like(valid)
    for rule in RULES:
        assert windows.out_valid(everything, place, rule).all() or name == "2x2, same"
    inside = windows.count_inside(SHAPE[1:3], place)
    np.testing.assert_array_equal(windows.count_valid(everything, place)[0], inside)


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("groups", [1, 2])
def test_masked_conv(name, groups):
    place, (x, valid) = PLACES[name], images()
    kernel = kernel_for(place, groups)
    dense, _ = conv_by_hand(x, valid, kernel, place, groups)
    for rule, seen in masks_by_hand(valid, place).items():
        y, found = conv.masked_conv(x, valid, kernel, BIAS, window=place, groups=groups, rule=rule)
        np.testing.assert_array_equal(found, seen)
        expected = np.where(seen[..., None], dense + BIAS, 0)
        np.testing.assert_allclose(y, expected, atol=2e-4)


@pytest.mark.parametrize("normalize", ["window", "inside", "sum"])
@pytest.mark.parametrize("bias", [None, BIAS])
def test_partial_conv(normalize, bias):
    place, (x, valid) = PLACES["7x7, stride 2"], images(share=0.1)
    kernel = kernel_for(place)
    dense, counts = conv_by_hand(x, valid, kernel, place)
    whole = {"window": 49, "inside": windows.count_inside(SHAPE[1:3], place), "sum": 1 / SHAPE[3]}
    ratio = whole[normalize] / np.maximum(counts, 1)
    expected = dense * ratio[..., None] + (0 if bias is None else bias)
    options = {"window": place, "normalize": normalize}
    y, seen = conv.partial_conv(x, valid, kernel, bias, **options)
    np.testing.assert_array_equal(seen, counts > 0)
    assert not seen[-1].any()
    np.testing.assert_allclose(y, np.where(seen[..., None], expected, 0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", PLACES)
def test_with_everything_valid_all_are_the_plain_convolution(name):
    place, (x, _) = PLACES[name], images()
    kernel, everything = kernel_for(place), np.ones(SHAPE[:3], bool)
    plain = conv.conv(x, kernel, BIAS, place)
    expected, _ = conv_by_hand(x, everything, kernel, place)
    np.testing.assert_allclose(plain, expected + BIAS, atol=2e-4)
    for rule in RULES:
        y, _ = conv.masked_conv(x, everything, kernel, BIAS, window=place, rule=rule)
        np.testing.assert_array_equal(y, plain)
    y, _ = conv.partial_conv(x, everything, kernel, BIAS, window=place, normalize="inside")
    np.testing.assert_allclose(y, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("hidden", ["skip", "zero"])
@pytest.mark.parametrize("name", PLACES)
def test_pooling(name, hidden):
    place, (x, valid) = PLACES[name], images()
    for rule, seen in masks_by_hand(valid, place).items():
        largest = np.zeros((*seen.shape, SHAPE[3]))
        mean = np.zeros_like(largest)
        for i, j, _, cells in each_window(place):
            for b in range(SHAPE[0]):
                values = [x[b][c] if valid[b][c] else 0 * x[b][c] for c in cells]
                if hidden == "skip":
                    values = [x[b][c] for c in cells if valid[b][c]]
                if seen[b, i, j] and values:
                    divisor = len(values) if hidden == "skip" else np.prod(place.size)
                    largest[b, i, j] = np.max(values, 0)
                    mean[b, i, j] = np.sum(values, 0) / divisor
        options = {"window": place, "rule": rule, "hidden": hidden}
        for fn, expected in ((pool.masked_max_pool, largest), (pool.masked_avg_pool, mean)):
            y, found = fn(x, valid, **options)
            np.testing.assert_array_equal(found, seen)
            np.testing.assert_allclose(y, expected, atol=1e-5)


def test_global_pool_and_densify():
    x, valid = images()
    found = pool.masked_global_pool(x, valid)
    for b in range(2):
        np.testing.assert_allclose(found[b], x[b][valid[b]].mean(0), rtol=1e-4, atol=1e-6)
    assert not found[2].any()
    token = np.arange(4.0)
    filled = np.asarray(conv.densify(jnp.asarray(x), valid, token))
    assert filled.dtype == np.float32
    np.testing.assert_array_equal(filled[valid], x[valid])
    np.testing.assert_array_equal(filled[~valid], np.tile(token, ((~valid).sum(), 1)))


PLACE = PLACES["3x3"]
LAYERS = {
    "hide": lambda x, v: conv.hide(x, v),
    "densify": lambda x, v: conv.densify(x, v, jnp.ones(4)),
    "masked_conv": lambda x, v: conv.masked_conv(x, v, kernel_for(PLACE), BIAS, window=PLACE)[0],
    "partial_conv": lambda x, v: conv.partial_conv(x, v, kernel_for(PLACE), BIAS, window=PLACE)[0],
    "max": lambda x, v: pool.masked_max_pool(x, v, window=PLACE, rule="any")[0],
    "avg": lambda x, v: pool.masked_avg_pool(x, v, window=PLACE)[0],
    "global": pool.masked_global_pool,
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("rubbish", [1e6, np.nan, np.inf])
def test_invalid_content_reaches_neither_results_nor_gradients(name, rubbish):
    layer, (x, valid) = LAYERS[name], images()
    run = jax.jit(lambda x: layer(x, valid))
    dirty = np.where(valid[..., None], x, np.float32(rubbish))
    np.testing.assert_array_equal(run(dirty), run(x))
    gradient = jax.jit(jax.grad(lambda x: jnp.square(layer(x, valid)).sum()))
    found = np.asarray(gradient(dirty))
    np.testing.assert_array_equal(found, gradient(x))
    assert (found[~valid] == 0).all()
    assert np.isfinite(found).all()
    assert found[valid].any()


def test_bfloat16_keeps_its_type_and_has_gradients():
    x, valid = images()
    small = jnp.asarray(x, jnp.bfloat16)
    for layer in (LAYERS["masked_conv"], LAYERS["partial_conv"], LAYERS["max"], LAYERS["avg"]):
        total = lambda x: (layer(x, valid).astype(jnp.float32).sum(), layer(x, valid))  # noqa: B023, E731
        gradient, y = jax.jit(jax.grad(total, has_aux=True))(small)
        assert y.dtype == gradient.dtype == jnp.bfloat16
        np.testing.assert_allclose(y.astype(jnp.float32), layer(x, valid), rtol=0.1, atol=0.3)


def test_sparse_masks_at_every_stride_are_those_of_the_pyramid():
    """Cells of 8 pixels through strides 2, 2 and 2: each mask is the cells' at that resolution."""
    cells = np.random.default_rng(4).uniform(size=(2, 3, 4)) < 0.5
    repeat = lambda k: cells.repeat(k, 1).repeat(k, 2)  # noqa: E731
    valid = jnp.asarray(repeat(8))
    steps = [window(7, stride=2, padding=3), PLACE, window(3, stride=2, padding=1)]
    for place, k in zip([*steps, window(2, stride=2)], (4, 4, 2, 1), strict=True):
        valid = windows.out_valid(valid, place, "centre")
        np.testing.assert_array_equal(valid, repeat(k))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, v: window(0), r"size \(0, 0\).*must be >= 1"),
        (lambda x, v: window(3, padding=-1), "padding must not be negative"),
        (lambda x, v: window(3, padding="full"), "got 'full'"),
        (lambda x, v: windows.out_valid(v, PLACE, "most"), "got 'most'"),
        (lambda x, v: windows.out_valid(v, window(9), "centre"), "does not fit into the image"),
        (
            lambda x, v: conv.partial_conv(x, v, kernel_for(PLACE), window=PLACE, normalize="l1"),
            "'window', 'inside' or 'sum', got 'l1'",
        ),
        (lambda x, v: pool.masked_max_pool(x, v, window=PLACE, hidden="mean"), "got 'mean'"),
        (lambda x, v: pool.masked_avg_pool(x, v, window=PLACE, hidden="mean"), "got 'mean'"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(*images())


@pytest.mark.parametrize(
    "call",
    [
        lambda x, v: conv.hide(x, v[:, :-1]),
        lambda x, v: conv.hide(x, v.astype(np.float32)),
        lambda x, v: conv.masked_conv(x, v, kernel_for(window(5)), window=PLACE),
        lambda x, v: conv.densify(x, v, jnp.ones(3)),
    ],
)
def test_wrong_shapes_and_types(call):
    with pytest.raises(AssertionError):
        call(*images())
