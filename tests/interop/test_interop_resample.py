"""Tables of another patch grid are resampled when a file is imported, and the report says how."""

from dataclasses import replace

import numpy as np
import pytest
from interop_trees import FULL, random_tree

from maskjax.errors import UserError
from maskjax.interop import export_weights, files, import_weights, to_torch
from maskjax.interop.layouts import LAYOUTS
from maskjax.nn.position import resize_table
from maskjax.nn.relative import resize_relative

LEARNED = replace(FULL.encoder_only(), position="learned", image_size=(12, 20))  # 3 x 5 patches
WIDE = replace(LEARNED, image_size=(8, 24))  # 2 x 6


def relative_of(params, kind):
    encoder = params["encoder"]
    return encoder["blocks"]["relative"][1] if kind == "layer" else encoder["relative"]


def table(params):
    return params["encoder"]["pos_embed"]


@pytest.mark.parametrize("format", ["mae", "timm", "hf_vit"])
def test_learned_positions(format, tmp_path):
    tree, path = random_tree(LEARNED), tmp_path / "w.safetensors"
    export_weights(tree, LEARNED, {}, format, path)
    params, report = import_weights(path, geometry=WIDE)
    antialias = format == "timm"
    expected = resize_table(table(tree), (3, 5), (2, 6), antialias=antialias)
    np.testing.assert_allclose(table(params), expected, rtol=1e-5, atol=1e-6)
    (note,) = report.notes
    assert "resampled from 3x5 to 2x6" in note and ("timm" in note) == antialias
    np.testing.assert_array_equal(table(params)[0], table(tree)[0])  # the class token's row


def test_a_bare_file_must_be_square_or_say_its_grid(tmp_path):
    square = replace(LEARNED, image_size=(16, 16))
    for geometry, fits in ((square, True), (LEARNED, False)):
        path = tmp_path / "w.safetensors"
        files.write(path, to_torch(random_tree(geometry), LAYOUTS["timm"](geometry)), {})
        if fits:
            _, report = import_weights(path, geometry=WIDE, format="timm")
            assert "resampled from 4x4 to 2x6" in "".join(report.notes)
            continue
        with pytest.raises(UserError, match=r"pos_embed is \(1, 16, 24\) in the file"):
            import_weights(path, geometry=WIDE, format="timm")


@pytest.mark.parametrize("kind", ["layer", "shared"])
def test_relative_tables(kind, tmp_path):
    geometry = replace(LEARNED, position="none", relative=kind, qkv_bias="query_value")
    wide = replace(geometry, image_size=WIDE.image_size)
    tree, path = random_tree(geometry), tmp_path / "w.safetensors"
    export_weights(tree, geometry, {}, "beit", path)
    params, report = import_weights(path, geometry=wide)
    assert "resampled from 3x5 to 2x6, on a geometric grid" in "".join(report.notes)
    found, before = (relative_of(each, kind) for each in (params, tree))
    np.testing.assert_allclose(found, resize_relative(before, (3, 5), (2, 6)), rtol=1e-5)
    assert len(report.notes) == 1  # once, not for each layer


def test_tables_of_another_kind_are_not_resampled(tmp_path):
    """A table with registers' rows, or of another width, is a difference and stays one."""
    path = tmp_path / "w.safetensors"
    files.write(path, to_torch(random_tree(LEARNED), LAYOUTS["timm"](LEARNED)), {})
    other = replace(WIDE, dim=48, heads=6)
    with pytest.raises(UserError, match="pos_embed is"):
        import_weights(path, geometry=other, format="timm")
