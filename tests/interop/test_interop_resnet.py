"""The layout of ResNets: every leaf has its key, and back."""

import jax
import numpy as np
import pytest

from maskjax.interop.convert import from_torch, to_torch
from maskjax.interop.layouts import resnet
from maskjax.nn.masked_resnet import MaskedResNet


@pytest.mark.parametrize("classes", [0, 5])
def test_round_trip(classes):
    model, blocks = MaskedResNet((3, 4), (2, 1), classes, 8), (2, 1)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    rng = np.random.default_rng(0)
    tree = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), shapes)
    rules = resnet.rules(blocks, head="fc" if classes else "", prefix="backbone.")
    arrays = to_torch(tree, rules)
    assert arrays["backbone.conv1.weight"].shape == (8, 3, 7, 7)
    assert arrays["backbone.layer2.0.downsample.0.weight"].shape == (16, 12, 1, 1)
    assert ("backbone.fc.weight" in arrays) == bool(classes)
    arrays["backbone.bn1.num_batches_tracked"] = np.int64(3)
    again = from_torch(arrays, rules, shapes, allow_unused=resnet.UNUSED)
    jax.tree.map(np.testing.assert_array_equal, again, tree)


def test_a_first_stage_without_a_convolution_in_its_shortcut():
    model = MaskedResNet((3, 4), (1, 1), 0, 12)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    tree = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
    arrays = to_torch(tree, resnet.rules((1, 1), shortcuts=("stage2_0",), head=""))
    assert "layer1.0.downsample.0.weight" not in arrays
    assert "layer2.0.downsample.0.weight" in arrays
    again = from_torch(arrays, resnet.rules((1, 1), head=""), shapes)
    jax.tree.map(np.testing.assert_array_equal, again, tree)
