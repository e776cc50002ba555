"""Peaks of chips and what share of them is used."""

import pytest

from maskjax.observe import flops


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
