"""From config entries to values, with errors that name the entry."""

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from maskjax import options
from maskjax.errors import UserError
from maskjax.nn.vit import Compute, Size


def config(**changes):
    return ConfigDict({**options.COMPUTE, **changes})


def test_compute():
    # "auto" unrolls on the CPU, where these tests run.
    assert options.compute(config()) == Compute(jnp.dtype("float32"), False, "none", "einsum")
    other = config(dtype="bfloat16", scan="on", remat="full", attention="xla")
    assert options.compute(other) == Compute(jnp.dtype("bfloat16"), True, "full", "xla")
    assert not options.compute(config(scan="off")).scan


@pytest.mark.parametrize(
    ("platform", "scan", "attention"),
    [("cpu", "off", "einsum"), ("gpu", "on", "cudnn_long"), ("tpu", "on", "pallas_long")],
)
def test_the_platform_decides_what_is_auto(platform, scan, attention):
    decided = options.for_platform({**options.COMPUTE, "dim": 3}, platform)
    assert (decided["scan"], decided["attention"]) == (scan, attention)
    assert decided["dim"] == 3
    given = {"scan": "on", "attention": "xla"}
    assert options.for_platform(given, platform) == given
    assert options.for_platform({"dim": 3}, platform) == {"dim": 3}


@pytest.mark.parametrize(
    ("key", "value"),
    [("dtype", "float16"), ("scan", "yes"), ("scan", None), ("remat", "all"), ("attention", "x")],
)
def test_compute_errors(key, value):
    with pytest.raises(UserError, match=rf"config\.model\.{key} = {value!r}: "):
        options.compute(config(**{key: value}))


def size(**changes):
    return ConfigDict({"dim": 16, "depth": 2, "heads": 4, "mlp_ratio": 4.0, **changes})


def test_size():
    assert options.size(size(), "model.encoder") == Size(16, 2, 4, 4.0)
    assert options.size(size(mlp_ratio=3), "model.encoder").mlp_hidden == 48


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 0}, r"dim = 0: must be a positive int"),
        ({"dim": 18}, r"dim = 18: must be a multiple of 4"),
        ({"dim": 16.0}, r"dim = 16\.0: must be a positive int"),
        ({"heads": 3}, r"heads = 3: must divide model\.encoder\.dim = 16"),
        ({"heads": -4}, r"heads = -4"),
        ({"depth": "2"}, r"depth = '2'"),
        ({"mlp_ratio": 0}, r"mlp_ratio = 0: must be a positive number"),
    ],
)
def test_size_errors(changes, message):
    with pytest.raises(UserError, match=rf"config\.model\.encoder\.{message}"):
        options.size(size(**changes), "model.encoder")


@pytest.mark.parametrize(
    ("value", "expected"), [(4, (4, 4)), ((4,), (4, 4)), ((4, 6), (4, 6)), ([4, 6], (4, 6))]
)
def test_pair(value, expected):
    assert options.pair(value, "model.patch_size") == expected


@pytest.mark.parametrize("value", [0, -1, 2.5, None, "4", (), (4, 4, 4), (4, 0), (4, 2.0)])
def test_pair_errors(value):
    with pytest.raises(UserError, match=r"config\.model\.patch_size = .*height, width"):
        options.pair(value, "model.patch_size")


def test_patch_grid():
    cfg = ConfigDict({"image_size": (12, 32), "patch_size": (4, 8)})
    assert options.patch_grid(cfg) == ((3, 4), (4, 8))
    cfg = ConfigDict({"image_size": 12, "patch_size": 5})
    with pytest.raises(UserError, match=r"patch_size = \(5, 5\): does not divide .* \(12, 12\)"):
        options.patch_grid(cfg)


def pixels(**changes):
    return ConfigDict(
        {"image_size": 8, "channels": 2, "mean": (0.5, 0.5), "std": (0.2, 0.2), **changes}
    )


def test_check_pixels():
    example = {"image": np.zeros((3, 8, 8, 2), np.uint8)}
    options.check_pixels(pixels(), example)
    options.check_pixels(pixels(mean=[0.5, 0.5]), example)
    for changes, message in (
        ({"mean": (0.5,)}, r"model\.mean = .*needs 2 channels"),
        ({"std": 0.5}, r"model\.std = 0\.5: needs 2 channels"),
        ({"std": (0.5, 0)}, r"model\.std = .*must be positive"),
        ({"channels": 0}, r"model\.channels = 0: must be a positive int"),
        ({"image_size": (8, 4)}, r"\(8, 4, 2\): the data has .*\(8, 8, 2\)"),
    ):
        with pytest.raises(UserError, match=message):
            options.check_pixels(pixels(**changes), example)


def test_visible_tokens():
    assert options.visible_tokens(0.6, 25) == 10
    for ratio in (1.0, -0.5, 0.97, "0.5", None, float("nan")):
        with pytest.raises(UserError, match=r"config\.model\.mask_ratio = "):
            options.visible_tokens(ratio, 25)
