"""What does not fit is refused, and the message names it and says what to do."""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from interop_trees import FULL, random_tree

from maskjax.errors import UserError
from maskjax.interop import Geometry, from_torch, to_torch
from maskjax.interop.differences import group
from maskjax.interop.layouts import LAYOUTS
from maskjax.interop.match import match_arrays
from maskjax.interop.paths import flatten
from maskjax.interop.shapes import param_tree

RULES = LAYOUTS["mae"](FULL)


@pytest.fixture
def tree():
    return random_tree(FULL)


@pytest.fixture
def arrays(tree):
    return to_torch(tree, RULES)


def refusal(arrays, like, rules=RULES, **allowed) -> str:
    with pytest.raises(UserError) as error:
        from_torch(arrays, rules, like, source="weights.pth", **allowed)
    return str(error.value)


def test_missing_keys_are_listed_with_the_nearest(arrays, tree):
    for i in range(3):
        value = arrays.pop(f"decoder_blocks.{i}.mlp.fc1.weight")
        arrays[f"decoder_blocks.{i}.mlp.lin1.weight"] = value
    message = refusal(arrays, tree)
    assert message.startswith("weights.pth does not fit the model")
    near = "decoder_blocks.{0..2}.mlp.lin1.weight (3 keys)"
    assert f"missing: decoder_blocks.{{0..2}}.mlp.fc1.weight (3 keys) (nearest: {near}" in message
    assert f"unused: {near}" in message


def test_unused_keys_are_refused_unless_named(arrays, tree):
    arrays |= {"head.weight": np.zeros((5, 24)), "head.bias": np.zeros(5)}
    assert "unused: head.weight" in refusal(arrays, tree)
    assert "unused: head.bias" in refusal(arrays, tree, allow_unused=("*.weight",))
    from_torch(arrays, RULES, tree, allow_unused=("head.*",))


def test_a_deeper_file_is_refused(arrays, tree):
    arrays["blocks.2.norm1.weight"] = arrays["blocks.1.norm1.weight"]
    assert "unused: blocks.2.norm1.weight" in refusal(arrays, tree)


def test_shapes_are_named_on_both_sides(arrays, tree):
    arrays["norm.weight"] = np.zeros(25, np.float32)
    for i in range(2):
        arrays[f"blocks.{i}.mlp.fc2.weight"] = np.zeros((24, 41), np.float32)
    message = refusal(arrays, tree)
    assert "norm.weight is (25,) in the file, (24,) in the model" in message
    assert "blocks.{0..1}.mlp.fc2.weight (2 keys) is (24, 41) in the file, (24, 40)" in message


def test_a_transposed_kernel_is_not_guessed(arrays, tree):
    arrays["decoder_embed.weight"] = np.ascontiguousarray(arrays["decoder_embed.weight"].T)
    assert "decoder_embed.weight is (24, 16) in the file, (16, 24)" in refusal(arrays, tree)


def test_missing_parts_keep_the_value_of_like_when_allowed(arrays, tree):
    encoder = {k: v for k, v in arrays.items() if "decoder" not in k and k != "mask_token"}
    del encoder["blocks.1.norm1.bias"]
    assert "missing: mask_token" in refusal(encoder, tree)
    fresh = random_tree(FULL, seed=1)
    allowed = ("decoder/*", "blocks.1.*")
    loaded = flatten(from_torch(encoder, RULES, fresh, allow_missing=allowed))
    for path, leaf in loaded.items():
        source = fresh if path.startswith("decoder/") else tree
        if path != "encoder/blocks/norm1/bias":
            np.testing.assert_array_equal(leaf, flatten(source)[path], err_msg=path)
    bias = loaded["encoder/blocks/norm1/bias"]
    np.testing.assert_array_equal(bias[0], flatten(tree)["encoder/blocks/norm1/bias"][0])
    np.testing.assert_array_equal(bias[1], flatten(fresh)["encoder/blocks/norm1/bias"][1])


def test_a_layout_without_a_part_of_the_model(arrays, tree):
    rules = LAYOUTS["timm"](FULL)
    message = refusal(arrays, tree, rules, allow_unused=("decoder*", "mask_token"))
    assert "missing: decoder/mask_token (the layout has no key for it)" in message
    allowed = {"allow_missing": ("decoder/*",), "allow_unused": ("decoder*", "mask_token")}
    assert from_torch(arrays, rules, tree, **allowed).keys() == tree.keys()


def test_missing_is_not_allowed_when_only_shapes_are_known(arrays):
    del arrays["mask_token"]
    message = refusal(arrays, param_tree(FULL), allow_missing=("decoder/*",))
    assert "decoder/mask_token may be missing, but only its shape is known" in message


def test_a_trained_position_table_is_refused(arrays, tree):
    arrays["pos_embed"] = arrays["pos_embed"] + np.float32(2e-5)
    message = refusal(arrays, tree)
    assert "pos_embed differs by up to 2e-05 from the fixed sin-cos table of a 2x3 grid" in message
    assert "position='learned'" in message


def test_a_table_with_rows_and_columns_exchanged_is_refused(arrays, tree):
    table = arrays["pos_embed"]
    arrays["pos_embed"] = np.concatenate([table[..., 12:], table[..., :12]], axis=-1)
    assert "another or a trained table" in refusal(arrays, tree)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_a_table_may_be_rounded_or_absent(arrays, tree, dtype):
    arrays["pos_embed"] = arrays["pos_embed"].astype(dtype)
    del arrays["decoder_pos_embed"]
    from_torch(arrays, RULES, tree)


def test_a_fixed_table_of_another_grid_is_regenerated_and_noted(tree):
    larger = replace(FULL, image_size=(16, 16))
    arrays = to_torch(tree, LAYOUTS["mae"](larger))
    match = match_arrays(arrays, RULES, tree)
    assert not match.differences
    assert "pos_embed is the fixed table of a 4x4 grid; the model regenerates it for 2x3" in (
        match.notes
    )
    arrays["pos_embed"] = arrays["pos_embed"] * np.float32(1.1)
    assert "pos_embed is (1, 17, 24) in the file, and no fixed sin-cos" in refusal(arrays, tree)


def test_a_learned_table_of_another_grid_is_refused():
    learned = replace(FULL, position="learned")
    arrays = to_torch(
        random_tree(replace(learned, image_size=(16, 16))),
        LAYOUTS["mae"](replace(learned, image_size=(16, 16))),
    )
    message = refusal(arrays, random_tree(learned), LAYOUTS["mae"](learned))
    assert "pos_embed is (1, 17, 24) in the file, (1, 7, 24) in the model" in message


def test_floats_are_cast_and_counted_and_integers_refused(arrays, tree):
    arrays["norm.weight"] = arrays["norm.weight"].astype(ml_dtypes.bfloat16)
    arrays["norm.bias"] = arrays["norm.bias"].astype(np.float16)
    match = match_arrays(arrays, RULES, tree)
    assert not match.differences
    assert match.casts == {("bfloat16", "float32"): 1, ("float16", "float32"): 1}
    assert match.leaves["encoder/norm/scale"].dtype == np.float32
    arrays["norm.bias"] = np.zeros(24, np.int64)
    assert "norm.bias holds int64 in the file, float32 in the model" in refusal(arrays, tree)


def test_a_tree_of_another_patch_size_is_refused(arrays):
    other = replace(FULL, image_size=(12, 18), patch_size=6)
    tree = random_tree(other)
    needed = "patch_embed.proj.weight is (24, 3, 4, 4) in the file, (24, 3, 6, 6) in the model"
    assert needed in refusal(arrays, tree, LAYOUTS["mae"](other))
    assert "is no patch projection of this geometry" in refusal(arrays, tree)
    # 4 * 4 * 3 values are also 2 * 2 * 12: the number of channels is never guessed.
    for wrong in (RULES, LAYOUTS["mae"](replace(FULL, image_size=(4, 6), patch_size=2))):
        with pytest.raises(UserError, match=r"cannot become patch_embed.proj.weight \(patch"):
            to_torch(tree if wrong is RULES else random_tree(FULL), wrong)


def test_export_refuses_leaves_without_a_key_and_keys_without_a_leaf(tree):
    with pytest.raises(UserError, match="no key of the layout holds decoder/mask_token"):
        to_torch(tree, LAYOUTS["timm"](FULL))
    to_torch(tree, LAYOUTS["timm"](FULL), allow_dropped=("decoder/*",))
    del tree["decoder"]
    with pytest.raises(UserError, match="the tree has no decoder/mask_token"):
        to_torch(tree, RULES)


def test_hugging_face_has_no_classifier_and_needs_a_cls_token():
    pooled = replace(FULL.encoder_only(), pool="gap", num_classes=2)
    with pytest.raises(UserError, match="no classifier"):
        LAYOUTS["hf"](pooled)
    with pytest.raises(UserError, match="needs a cls token"):
        LAYOUTS["hf"](replace(FULL, cls=False))
    with pytest.raises(UserError, match="pool='none'"):
        LAYOUTS["classify"](FULL)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_size": (9, 12)}, "image_size=.* no multiple of patch_size=4"),
        ({"heads": 5}, "dim=24 is no multiple of heads=5"),
        ({"dim": 6, "heads": 1}, "dim=6; a sin-cos"),
        ({"depth": 0}, "depth=0"),
        ({"patch_size": (4, 2)}, r"patch_size=\(4, 2\) is no whole number"),
        ({"decoder_depth": 0}, "decoder_depth=0"),
        ({"decoder_heads": 3}, "decoder_dim=16 is no multiple of decoder_heads=3"),
        ({"position": "rope"}, "position='rope'; choose one of sincos, learned"),
        ({"pool": "cls", "cls": False}, "pool='cls' needs cls=True"),
        ({"num_classes": 3}, "num_classes is set but pool='none'"),
    ],
)
def test_impossible_geometries_are_refused(change, words):
    with pytest.raises(UserError, match=words):
        replace(FULL, **change)


def test_damaged_geometry_metadata_is_refused():
    assert Geometry.from_metadata({"format": "pt"}) is None
    metadata = FULL.to_metadata()
    with pytest.raises(UserError, match="cannot be read"):
        Geometry.from_metadata(metadata | {"geometry.dim": "24,"})
    del metadata["geometry.dim"]
    with pytest.raises(UserError, match="dim"):
        Geometry.from_metadata(metadata)


def test_keys_are_folded_by_number():
    keys = [f"blocks.{i}.norm1.bias" for i in range(12)] + ["norm.bias", "blocks.3.norm2.bias"]
    assert group(keys) == ["blocks.{0..11}.norm1.bias (12 keys)", "norm.bias", keys[-1]]
    assert group(["a.0.b", "a.5.b"]) == ["a.{0,5}.b (2 keys)"]
    assert group(["s.0.b.0.w", "s.0.b.1.w"]) == ["s.0.b.{0..1}.w (2 keys)"]
