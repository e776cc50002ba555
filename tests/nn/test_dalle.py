"""The discrete VAE's networks: shapes, layout of the official files, types, cost by formula."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax.errors import UserError
from maskjax.interop.convert import from_torch, to_torch
from maskjax.interop.layouts import dalle
from maskjax.interop.paths import flatten
from maskjax.nn.dalle import (
    DalleDecoder,
    DalleEncoder,
    DalleSize,
    decoder_flops,
    encoder_flops,
    map_pixels,
    unmap_pixels,
)

SIZE = DalleSize(vocab=6, width=8, groups=3, blocks=1, channels=3, embedding=5)
IMAGE = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 8, 12, 3)), jnp.float32)
TOKENS = jax.nn.one_hot(jnp.arange(12).reshape(2, 2, 3) % 6, 6)


def params(model, x):
    return tiny.filled(jax.eval_shape(model.init, jax.random.key(0), x)["params"])


@given(st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_pixels_are_moved_inward_and_back(value):
    mapped = float(map_pixels(jnp.float32(value)))
    assert 0.1 - 1e-6 <= mapped <= 0.9 + 1e-6
    assert float(unmap_pixels(jnp.float32(mapped))) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_to_tokens_and_back(dtype):
    encoder, decoder = DalleEncoder(SIZE, dtype), DalleDecoder(SIZE, dtype)

    def run(one, two):
        logits, _ = encoder.apply({"params": one}, IMAGE)
        location, log_scale = decoder.apply({"params": two}, jax.nn.softmax(logits))
        return location.sum(), (logits, location, log_scale)

    trees = (params(encoder, IMAGE), params(decoder, TOKENS))
    gradients, out = jax.jit(jax.grad(run, (0, 1), has_aux=True))(*trees)
    assert [x.shape for x in out] == [(2, 2, 3, 6), (2, 8, 12, 3), (2, 8, 12, 3)]
    assert all(x.dtype == jnp.float32 for x in out)
    assert all((leaf != 0).any() for leaf in jax.tree.leaves(gradients[0]))


def test_residual_branches_start_small_and_convolutions_as_in_the_official_code():
    tree = jax.jit(DalleEncoder(DalleSize(40, 64, 2, 1)).init)(jax.random.key(0), IMAGE)["params"]
    kernel = tree["group_2_block_1"]["conv_2"]["kernel"]
    assert float(kernel.std()) == pytest.approx((9 * 32) ** -0.5, rel=0.05)
    assert not tree["output"]["bias"].any()
    assert DalleSize().gain == 1 / 64


@pytest.mark.parametrize(
    ("model", "x"), [(DalleEncoder(SIZE), IMAGE), (DalleDecoder(SIZE), TOKENS)]
)
def test_the_official_layout_and_back(model, x):
    part = "encoder" if isinstance(model, DalleEncoder) else "decoder"
    tree = {part: params(model, x)}
    rules = dalle.rules(flatten(tree))
    arrays = to_torch(tree, rules)
    jax.tree.map(np.testing.assert_array_equal, from_torch(arrays, rules, tree), tree)
    first, output = (8, 3, 7, 7), (6, 32, 1, 1)
    block = (4, 8, 3, 3) if part == "encoder" else (4, 32, 1, 1)
    if part == "decoder":
        first, output = (5, 6, 1, 1), (6, 8, 1, 1)
    assert arrays["blocks.input.w"].shape == first
    assert arrays["blocks.group_2.block_1.res_path.conv_1.w"].shape == block
    assert "blocks.group_2.block_1.id_path.b" in arrays
    assert arrays["blocks.output.conv.w"].shape == output


def test_a_file_holds_one_network():
    with pytest.raises(UserError, match="encoder or the decoder"):
        dalle.rules(("encoder/input/kernel", "decoder/input/kernel"))


def test_cost_by_formula_is_that_of_the_compiled_convolutions():
    image = (8, 12)
    for model, x, flops in (
        (DalleEncoder(SIZE), IMAGE[:1], encoder_flops(SIZE, image)),
        (DalleDecoder(SIZE), TOKENS[:1], decoder_flops(SIZE, image)),
    ):
        text = jax.jit(lambda p, x: model.apply({"params": p}, x)).lower(params(model, x), x)  # noqa: B023
        # Dense arithmetic counts zero padding too, which XLA's own count leaves out.
        counted = sum(_products(line) for line in text.as_text().splitlines())
        assert counted == flops


def _products(line: str) -> int:
    """FLOPs of a stablehlo.convolution, from the shapes in its line."""
    if "stablehlo.convolution" not in line:
        return 0
    shapes = re.findall(r"tensor<([\dx]+)xf32>", line)
    _, kernel, out = ([int(n) for n in shape.split("x")] for shape in shapes)
    return 2 * int(np.prod(out)) * int(np.prod(kernel[:3]))
