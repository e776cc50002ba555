"""Formats of networks that are no plain ViT: files as a user makes and reads them, refusals."""

from dataclasses import replace

import numpy as np
import pytest
from interop_trees import FULL, random_tree

import maskjax
from maskjax.errors import UserError
from maskjax.interop import export_weights, files, import_weights, to_torch
from maskjax.interop.check import check_export
from maskjax.interop.layouts import rules_of
from maskjax.interop.paths import flatten
from maskjax.nn.families import (
    ConvNeXtGeometry,
    ResNetGeometry,
    SwinGeometry,
    from_metadata,
    geometry_from,
)

RESNET = ResNetGeometry((32, 64), 3, (2, 1), (4, 6), stem=8, num_classes=5)
SWIN = SwinGeometry((32, 64), 2, 3, 8, (2, 1), (2, 4), 4, num_classes=5)
CONVNEXT = ConvNeXtGeometry((32, 64), 3, (2, 1, 1, 1), (4, 6, 6, 8), num_classes=5)
CASES = {
    "resnet": RESNET,
    **dict.fromkeys(("swin", "timm_swin", "hf_swin"), SWIN),
    **dict.fromkeys(("convnext", "timm_convnext"), CONVNEXT),
}
STATS = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.2)}


def tree_of(geometry):
    tree = random_tree(geometry)
    for path, leaf in flatten(tree).items():
        if path.endswith("bn/var"):
            np.abs(leaf, out=leaf)
    return tree


@pytest.mark.parametrize("format", CASES)
def test_a_file_says_all_and_gives_features(format, tmp_path):
    geometry, out = CASES[format], tmp_path / "w.safetensors"
    tree = tree_of(geometry)
    report = export_weights(tree, geometry, STATS, format, out)
    parity = check_export(tree, report, STATS)
    assert not parity.reread
    assert import_weights(out)[1].geometry == geometry
    images = np.random.default_rng(0).integers(0, 255, (2, *geometry.image_size, 3), np.uint8)
    predict, params, facts = maskjax.load(out)
    features = predict["encode"](params, images)
    mean = np.asarray(features["tokens"].mean(1))
    if geometry is CONVNEXT:  # its norm comes after pooling
        mean = (mean - mean.mean(-1, keepdims=True)) / mean.std(-1, keepdims=True)
        mean = mean * tree["params"]["norm"]["scale"] + tree["params"]["norm"]["bias"]
    np.testing.assert_allclose(features["mean"], mean, rtol=1e-3, atol=1e-3)
    assert features["logits"].shape == (2, geometry.num_classes)
    assert facts["mean"] == STATS["mean"]
    with pytest.raises(UserError, match="this encoder takes"):
        predict["encode"](params, images[:, :-1])


@pytest.mark.parametrize("format", CASES)
def test_other_families_are_refused(format, tmp_path):
    geometry, out = CASES[format], tmp_path / "w.npz"
    with pytest.raises(UserError, match=f"family {geometry.FAMILY}, this is one of vit.*timm"):
        export_weights(random_tree(FULL), FULL, {}, format, out)
    with pytest.raises(UserError, match=f"family vit, this is one of {geometry.FAMILY}.*{format}"):
        export_weights(tree_of(geometry), geometry, {}, "timm", out)
    export_weights(tree_of(geometry), geometry, {}, format, out)
    with pytest.raises(UserError, match="different families"):
        import_weights(out, geometry=FULL)
    with pytest.raises(UserError, match=f"looks like layout {format}"):
        import_weights(bare(geometry, format, tmp_path), geometry=FULL)


def bare(geometry, format, tmp_path):
    path = tmp_path / "bare.npz"
    files.write(path, to_torch(tree_of(geometry), rules_of(format, geometry)), {})
    return path


def test_differences_are_named(tmp_path):
    out = tmp_path / "w.npz"
    export_weights(tree_of(RESNET), RESNET, {}, "resnet", out)
    with pytest.raises(UserError, match=r"blocks: \(2, 1\), \(1, 1\)"):
        import_weights(out, geometry=replace(RESNET, blocks=(1, 1)))
    with pytest.raises(UserError, match=r"fc.weight is \(5, 24\) in the file, \(6, 24\)"):
        import_weights(out, geometry=replace(RESNET, num_classes=6))
    headless = replace(RESNET, num_classes=0)
    with pytest.raises(UserError, match=r"unused: fc\.bias"):
        import_weights(out, geometry=headless)
    import_weights(out, geometry=headless, encoder_only=True)


def test_swins_that_timm_would_compute_otherwise_are_refused(tmp_path):
    wide = replace(SWIN, image_size=(16, 32))
    with pytest.raises(UserError, match="use format swin or hf_swin"):
        export_weights(tree_of(wide), wide, {}, "timm_swin", tmp_path / "w.npz")
    with pytest.raises(UserError, match="does not divide"):
        replace(SWIN, window=5)
    with pytest.raises(UserError, match="do not divide the stages"):
        replace(SWIN, heads=(3, 4))


def test_impossible_values_are_named():
    with pytest.raises(UserError, match="stem=0"):
        replace(RESNET, stem=0)
    with pytest.raises(UserError, match="differ in length"):
        replace(RESNET, blocks=(1,))
    with pytest.raises(UserError, match="family='mlp'"):
        geometry_from({"family": "mlp"})
    with pytest.raises(UserError, match="cannot be read"):
        from_metadata({"geometry.family": "resnet}"})
    assert geometry_from({"family": "resnet", **vars(RESNET)}) == RESNET


def test_a_folder_is_written_only_for_what_timm_builds(tmp_path):
    with pytest.raises(UserError, match="stem=8"):
        export_weights(tree_of(RESNET), RESNET, {}, "resnet", tmp_path / "hub")
    short = replace(CONVNEXT, blocks=(1,), widths=(4,))
    with pytest.raises(UserError, match="has 1 stages"):
        export_weights(tree_of(short), short, {}, "timm_convnext", tmp_path / "hub")


@pytest.mark.parametrize("format", ["timm_swin", "hf_swin"])
def test_a_mask_token_is_dropped_where_there_is_no_key(format, tmp_path):
    masked = replace(SWIN, mask_token=True)
    report = export_weights(tree_of(masked), masked, {}, format, tmp_path / "w.npz")
    assert not report.geometry.mask_token
    vit = replace(FULL.encoder_only(), mask_token=True)
    assert not export_weights(
        random_tree(vit), vit, {}, "timm", tmp_path / "v.npz"
    ).geometry.mask_token


def test_convnexts_without_a_final_norm(tmp_path):
    """SparK's: a file says what timm's own model has beside it, a folder is refused."""
    bare, out = replace(CONVNEXT, num_classes=0, final_norm=False), tmp_path / "w.safetensors"
    tree = random_tree(bare)
    report = export_weights(tree, bare, {}, "timm_convnext", out)
    assert "strict=False" in report.snippet
    with pytest.raises(UserError, match="norm after pooling"):
        export_weights(tree, bare, {}, "timm_convnext", tmp_path / "hub")
    like, geometry = random_tree(replace(bare, final_norm=True), 1), replace(bare, final_norm=True)
    with pytest.raises(UserError, match=r"head\.norm"):
        import_weights(out, like, geometry)
    found, report = import_weights(out, like, geometry, allow_missing=("head.norm.*",))
    np.testing.assert_array_equal(found["params"]["norm"]["bias"], like["params"]["norm"]["bias"])
    np.testing.assert_array_equal(found["params"]["stem"]["bias"], tree["params"]["stem"]["bias"])


def test_simmims_head_to_pixels_travels_in_its_own_formats(tmp_path):
    """Official names and Hugging Face's hold it; timm's do not; `encoder` leaves it out."""
    whole = replace(SWIN, num_classes=0, mask_token=True, pixel_head=True)
    tree = tree_of(whole)
    for format in ("swin", "hf_swin"):
        out = tmp_path / format if format == "hf_swin" else tmp_path / "w.safetensors"
        report = export_weights(tree, whole, {}, format, out)
        assert report.geometry == whole and not report.dropped
        assert not check_export(tree, report, {}).reread
        assert import_weights(out)[1].geometry == whole
        report = export_weights(tree, whole, {}, format, tmp_path / "e.npz", "encoder")
        assert not report.geometry.pixel_head
        assert any(line.startswith("decoder/") for line in report.dropped)
    assert any(
        line.startswith("decoder/")
        for line in export_weights(tree, whole, {}, "timm_swin", tmp_path / "t.npz").dropped
    )
    with pytest.raises(UserError, match="pixel_head=True needs mask_token=True"):
        replace(SWIN, pixel_head=True)
