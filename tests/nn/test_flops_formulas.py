"""FLOPs by formula against the published table and against what XLA counts."""

import jax
import jax.numpy as jnp
import pytest

from maskjax.nn import flops
from maskjax.nn.autoencoder import Autoencoder, forward_flops
from maskjax.nn.vit import Compute, Size

# Name: (N, K, P, encoder (dim, depth), decoder (dim, depth), GFLOPs per image and training step).
TABLE = {
    "tiny": (196, 49, 768, (192, 12), (128, 4), 2.97),
    "small": (196, 49, 768, (384, 12), (256, 4), 10.99),
    "b16": (196, 49, 768, (768, 12), (512, 8), 58.05),
    "l16": (196, 49, 768, (1024, 24), (512, 8), 123.7),
    "h14": (256, 64, 588, (1280, 32), (512, 8), 290.4),
}


@pytest.mark.parametrize("name", TABLE)
def test_mae_steps_match_the_table(name):
    tokens, visible, patch_dim, encoder, decoder, expected = TABLE[name]
    sizes = (Size(*encoder, heads=1), Size(*decoder, heads=1))
    model = Autoencoder(*sizes, (1, tokens), patch_dim, Compute())
    assert 3 * forward_flops(model, visible) / 1e9 == pytest.approx(expected, rel=0.002)


def test_one_block_matches_what_the_compiler_counts():
    tokens, dim, hidden = 24, 16, 40

    def block(x, qkv, out, fc1, fc2):
        q, k, v = (x @ w for w in qkv)
        x = (q @ k.T) @ v @ out
        return (x @ fc1) @ fc2

    shapes = [(tokens, dim), (3, dim, dim), (dim, dim), (dim, hidden), (hidden, dim)]
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    counted = jax.jit(block).lower(*arguments).compile().cost_analysis()["flops"]
    assert counted == flops.transformer(tokens, Size(dim, 1, 1, hidden / dim))
