"""FLOPs by formula against the published table and against what XLA counts."""

import jax
import jax.numpy as jnp
import pytest

from maskjax.observe import flops

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
    found = flops.mae_step_flops(
        num_tokens=tokens,
        num_visible=visible,
        patch_dim=patch_dim,
        dim=encoder[0],
        depth=encoder[1],
        mlp_hidden=4 * encoder[0],
        decoder_dim=decoder[0],
        decoder_depth=decoder[1],
        decoder_mlp_hidden=4 * decoder[0],
    )
    assert found / 1e9 == pytest.approx(expected, rel=0.002)


def test_one_block_matches_what_the_compiler_counts():
    tokens, dim, hidden = 24, 16, 40

    def block(x, qkv, out, fc1, fc2):
        q, k, v = (x @ w for w in qkv)
        x = (q @ k.T) @ v @ out
        return (x @ fc1) @ fc2

    shapes = [(tokens, dim), (3, dim, dim), (dim, dim), (dim, hidden), (hidden, dim)]
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    counted = jax.jit(block).lower(*arguments).compile().cost_analysis()["flops"]
    assert counted == flops.vit_flops(tokens, dim, 1, hidden)


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("TPU v4", 275e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5e", 197e12),
        ("TPU v5p", 459e12),
        ("TPU v5", 459e12),
        ("TPU v6 lite", 918e12),
        ("TPU v6e", 918e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA A1000 Laptop GPU", None),
        ("cpu", None),
    ],
)
def test_peaks(kind, peak):
    assert flops.peak_flops(kind) == peak


def test_mfu():
    assert flops.mfu(58.05e9, 1000, 1, "TPU v5 lite") == pytest.approx(58.05 / 197)
    assert flops.mfu(58.05e9, 1000, 2, "NVIDIA A100", "float32") == pytest.approx(58.05 / 312)
    assert flops.mfu(58.05e9, 1000, 1, "cpu") is None
    assert flops.peak_flops("TPU v4", "int8") is None
