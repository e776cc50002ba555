"""What the transforms mean: the torch layer with the torch tensor computes what ours computes."""

import numpy as np
import pytest
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax.interop import transforms

RNG = np.random.default_rng(0)
B, D, H, K = 5, 6, 3, 4


def torch_linear(x, weight, bias=0.0):
    return x @ weight.T + bias


def test_linear():
    x, kernel = RNG.normal(size=(B, D)), RNG.normal(size=(D, 7))
    weight = transforms.LINEAR.to_torch(kernel)
    np.testing.assert_allclose(torch_linear(x, weight), x @ kernel)


def test_fused_qkv_rows_are_q_k_v_each_head_major():
    x = RNG.normal(size=(B, D))
    kernels, biases = RNG.normal(size=(3, D, H, K)), RNG.normal(size=(3, H, K))
    weight = transforms.QKV_KERNEL.to_torch(*kernels)
    bias = transforms.QKV_BIAS.to_torch(*biases)
    # timm: qkv(x).reshape(B, 3, heads, head_dim)
    fused = torch_linear(x, weight, bias).reshape(B, 3, H, K)
    ours = np.stack([np.einsum("bd,dhk->bhk", x, k) + b for k, b in zip(kernels, biases)], 1)  # noqa: B905
    np.testing.assert_allclose(fused, ours)


def test_kernel_out_of_heads():
    heads, kernel = RNG.normal(size=(B, H, K)), RNG.normal(size=(H, K, D))
    weight = transforms.OUT_KERNEL.to_torch(kernel)
    ours = np.einsum("bhk,hkd->bd", heads, kernel)
    np.testing.assert_allclose(torch_linear(heads.reshape(B, H * K), weight), ours)


def test_patch_kernel_is_a_strided_convolution_over_row_column_channel():
    p, channels = 2, 3
    image, kernel = RNG.normal(size=(4, 6, channels)), RNG.normal(size=(p * p * channels, D))
    weight = transforms.patch_conv(p, channels).to_torch(kernel)
    windows = rearrange(image, "(h p) (w q) c -> h w c p q", p=p, q=p)
    torch = np.einsum("hwcpq,dcpq->hwd", windows, weight)
    patches = rearrange(image, "(h p) (w q) c -> h w (p q c)", p=p, q=p)
    np.testing.assert_allclose(torch, patches @ kernel)


CASES = {
    "linear": (transforms.LINEAR, [(D, 7)]),
    "heads": (transforms.HEAD_KERNEL, [(D, H, K)]),
    "head bias": (transforms.HEAD_BIAS, [(H, K)]),
    "out": (transforms.OUT_KERNEL, [(H, K, D)]),
    "qkv": (transforms.QKV_KERNEL, [(D, H, K)] * 3),
    "uneven qkv": (transforms.QKV_KERNEL, [(D, H, K), (D, 1, K), (D, 1, K)]),
    "qkv bias": (transforms.QKV_BIAS, [(H, K)] * 3),
    "patch": (transforms.patch_conv(2, 3), [(12, D)]),
    "token": (transforms.TOKEN, [(D,)]),
    "table": (transforms.TABLE, [(5, D)]),
    "identity": (transforms.IDENTITY, [(5, D)]),
}


@pytest.mark.parametrize("name", CASES)
def test_inverse(name):
    transform, shapes = CASES[name]
    leaves = [RNG.normal(size=shape) for shape in shapes]
    array = transform.to_torch(*leaves)
    assert transform.torch_shape(*shapes) == array.shape
    for leaf, back in zip(leaves, transform.from_torch(array, *shapes), strict=True):
        np.testing.assert_array_equal(leaf, back)


@settings(max_examples=30, deadline=None)
@given(p=st.integers(1, 4), channels=st.integers(1, 4), dim=st.integers(1, 4))
def test_patch_kernel_inverse(p, channels, dim):
    transform, kernel = transforms.patch_conv(p, channels), RNG.normal(size=(p * p * channels, dim))
    array = transform.to_torch(kernel)
    assert array.shape == (dim, channels, p, p)
    np.testing.assert_array_equal(transform.from_torch(array, kernel.shape)[0], kernel)
