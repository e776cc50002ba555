"""Every layout's table: round trips are identities, names are the documented ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interop_trees import FULL, dtypes, geometries, random_tree, shapes

from maskjax.interop import Constant, files, from_torch, import_weights, to_torch
from maskjax.interop.guess import KINDS, looks_like
from maskjax.interop.layouts import FAMILY, LAYOUTS
from maskjax.interop.paths import flatten
from maskjax.interop.shapes import param_shapes
from maskjax.nn.families import from_metadata

layouts = pytest.mark.parametrize("layout", LAYOUTS)
few = settings(max_examples=25, deadline=None)


def assert_same(a, b):
    a, b = flatten(a), flatten(b)
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        np.testing.assert_array_equal(a[name], b[name], err_msg=name, strict=True)


@layouts
@few
@given(data=st.data(), seed=st.integers(0, 9), dtype=dtypes)
def test_round_trips_are_identities(layout, data, seed, dtype):
    geometry = data.draw(geometries(layout))
    rules = LAYOUTS[layout](geometry)
    tree = random_tree(geometry, seed, dtype)
    arrays = to_torch(tree, rules)
    back = from_torch(arrays, rules, tree)
    assert_same(back, tree)
    assert_same(to_torch(back, rules), arrays)
    assert all(array.flags.c_contiguous for array in arrays.values())


@layouts
@few
@given(data=st.data(), wrapped=st.booleans())
def test_bare_files_are_told_by_their_names(layout, data, wrapped, tmp_path_factory):
    """No metadata and no format: the layout that is chosen gives the same tree."""
    geometry = data.draw(geometries(layout))
    tree, path = random_tree(geometry), tmp_path_factory.mktemp("bare") / "w.npz"
    arrays = to_torch(tree, LAYOUTS[layout](geometry))
    files.write(path, {("module." if wrapped else "") + k: a for k, a in arrays.items()}, {})
    params, report = import_weights(path, geometry=geometry)
    assert_same(params, tree)
    assert not report.kept and not report.ignored


@pytest.mark.parametrize("layout, label, geometry", KINDS)
def test_kinds_of_files_look_like_themselves(layout, label, geometry):
    guess = looks_like(to_torch(random_tree(geometry), LAYOUTS[layout](geometry)))
    assert (guess.label, guess.score) == (label, 1)


@layouts
@few
@given(data=st.data())
def test_no_key_or_leaf_is_named_twice_and_none_is_left_out(layout, data):
    geometry = data.draw(geometries(layout))
    rules = LAYOUTS[layout](geometry)
    keys = [rule.theirs for rule in rules]
    paths = [path for rule in rules if not isinstance(rule, Constant) for path in rule.paths]
    assert len(set(keys)) == len(keys)
    assert sorted(paths) == sorted(shapes(geometry))


@few
@given(geometry=st.one_of(*(geometries(layout) for layout in ("mae", "timm", *FAMILY))))
def test_shapes_of_a_geometry_are_the_frozen_ones(geometry):
    assert param_shapes(geometry) == shapes(geometry)


@few
@given(geometry=st.one_of(*(geometries(layout) for layout in ("mae", "classify", *FAMILY))))
def test_geometry_survives_its_metadata(geometry):
    metadata = geometry.to_metadata()
    assert all(isinstance(text, str) for text in [*metadata, *metadata.values()])
    assert from_metadata(metadata | {"other": "x"}) == geometry


def test_any_tree_of_the_same_shapes_can_be_written():
    tree = {
        path: np.full(shape, i, np.float32) for i, (path, shape) in enumerate(shapes(FULL).items())
    }
    arrays = to_torch(tree, LAYOUTS["hf"](FULL))
    expected = list(tree).index("encoder/blocks/mlp/fc1/kernel")
    assert np.all(arrays["vit.encoder.layer.1.intermediate.dense.weight"] == expected)


def test_jax_arrays_and_shape_structs_are_taken():
    jax = pytest.importorskip("jax")
    rules, tree = LAYOUTS["mae"](FULL), random_tree(FULL)
    arrays = to_torch(jax.tree.map(jax.numpy.asarray, tree), rules)
    like = jax.eval_shape(lambda: jax.tree.map(jax.numpy.asarray, tree))
    assert_same(from_torch(arrays, rules, like), tree)


def test_official_names_and_shapes():
    arrays = to_torch(random_tree(FULL), LAYOUTS["mae"](FULL))
    found = {key: array.shape for key, array in arrays.items()}
    expected = {
        "cls_token": (1, 1, 24),
        "pos_embed": (1, 7, 24),
        "patch_embed.proj.weight": (24, 3, 4, 4),
        "blocks.1.attn.qkv.weight": (72, 24),
        "blocks.1.attn.qkv.bias": (72,),
        "blocks.0.attn.proj.weight": (24, 24),
        "blocks.0.mlp.fc1.weight": (40, 24),
        "norm.weight": (24,),
        "mask_token": (1, 1, 16),
        "decoder_pos_embed": (1, 7, 16),
        "decoder_embed.weight": (16, 24),
        "decoder_blocks.2.norm2.bias": (16,),
        "decoder_pred.weight": (48, 16),
    }
    assert expected.items() <= found.items()
    assert len(found) == 6 + 5 * 12 + 8  # ends of the encoder, blocks, ends of the decoder


def test_the_encoder_of_mae_has_timm_names():
    encoder = FULL.encoder_only()
    tree = random_tree(encoder)
    assert_same(to_torch(tree, LAYOUTS["mae"](encoder)), to_torch(tree, LAYOUTS["timm"](encoder)))


def test_fixed_tables_follow_the_formula():
    """Channels: sines then cosines of the column, then of the row; the cls row is zero."""
    arrays = to_torch(random_tree(FULL), LAYOUTS["mae"](FULL))
    table = arrays["pos_embed"][0]
    assert not table[0].any()
    row, column, quarter = 1, 2, 24 // 4
    w = 10000.0 ** (-np.arange(quarter) / quarter)
    angles = [np.sin(column * w), np.cos(column * w), np.sin(row * w), np.cos(row * w)]
    np.testing.assert_allclose(table[1 + row * 3 + column], np.concatenate(angles), atol=1e-6)
