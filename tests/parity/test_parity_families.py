"""Networks in stages, live against timm and transformers, both ways, stage by stage."""

from dataclasses import replace

import numpy as np
import pytest

reason = "live parity needs PyTorch: `make test-torch`"
torch = pytest.importorskip("torch", reason=reason)
timm = pytest.importorskip("timm", reason=reason)

import jax  # noqa: E402
from torch_models import assert_close, images_for, randomize  # noqa: E402

from maskjax.interop import backbones, export_weights, files, import_weights  # noqa: E402
from maskjax.interop.check import check_export  # noqa: E402
from maskjax.interop.paths import flatten  # noqa: E402
from maskjax.interop.shapes import param_tree  # noqa: E402
from maskjax.nn.families import (  # noqa: E402
    ConvNeXtGeometry,
    ResNetGeometry,
    SwinGeometry,
)

RESNET = ResNetGeometry((64, 96), 3, (2, 1, 1, 1), (8, 12, 16, 20), num_classes=3)
SWIN = SwinGeometry((32, 32), 2, 3, 8, (2, 3), (2, 4), 4, mlp_ratio=3.0, num_classes=3)
CONVNEXT = ConvNeXtGeometry((64, 96), 3, (2, 1, 1, 1), (8, 12, 16, 20), num_classes=3)
PIXELS = replace(SWIN, num_classes=0, mask_token=True, pixel_head=True)
# (format, geometry, number of compared activations)
CASES = {
    "resnet": ("resnet", RESNET, 5),
    "resnet-headless": ("resnet", replace(RESNET, num_classes=0), 5),
    "resnet-plain-shortcut": ("resnet", replace(RESNET, widths=(16, 12, 16, 20)), 5),
    "timm_swin": ("timm_swin", SWIN, 7),
    "timm_swin-wide": ("timm_swin", replace(SWIN, image_size=(32, 64), num_classes=0), 6),
    "timm_swin-masked": ("timm_swin", replace(SWIN, mask_token=True), 7),
    "hf_swin": ("hf_swin", SWIN, 7),
    "hf_swin-headless": ("hf_swin", replace(SWIN, num_classes=0), 6),
    "hf_swin-pixels": ("hf_swin", PIXELS, 7),
    "timm_convnext": ("timm_convnext", CONVNEXT, 5),
    "timm_convnext-headless": ("timm_convnext", replace(CONVNEXT, num_classes=0), 5),
}


def random_params(geometry):
    draw = np.random.default_rng(0).normal
    tree = jax.tree.map(
        lambda leaf: draw(0, 0.2, leaf.shape).astype(np.float32), param_tree(geometry)
    )
    for path, leaf in flatten(tree).items():
        if path.endswith("bn/var"):
            leaf[:] = 1 + np.abs(leaf)
    return tree


@pytest.mark.parametrize("suffix", ["", ".safetensors"])
@pytest.mark.parametrize("name", CASES)
def test_the_parity_report_of_stages(name, suffix, tmp_path):
    format, geometry, count = CASES[name]
    params, out = random_params(geometry), tmp_path / f"exported{suffix}"
    report = export_weights(params, geometry, {}, format, out)
    parity = check_export(params, report, {})
    assert parity.ok, str(parity)
    assert len(parity.rows) == count, str(parity)
    scope = {}
    exec(report.snippet, scope)
    images = images_for(geometry)
    mine, _ = backbones.run(geometry, params, np.moveaxis(images, -3, -1))
    if geometry.num_classes and "state" not in scope:
        with torch.no_grad():
            theirs = scope["model"].eval()(torch.from_numpy(images))
        assert_close("logits", mine["logits"], getattr(theirs, "logits", theirs))


def test_stages_of_a_convnext_without_a_final_norm(tmp_path):
    """SparK's backbones: all but timm's own norm is loaded and compared."""
    geometry = replace(CONVNEXT, num_classes=0, final_norm=False)
    params, out = random_params(geometry), tmp_path / "exported.safetensors"
    report = export_weights(params, geometry, {}, "timm_convnext", out)
    parity = check_export(params, report, {})
    assert parity.ok and len(parity.rows) == 4, str(parity)


def test_resnet_50_of_timm(tmp_path):
    """The published widths, running statistics and all."""
    model = timm.create_model("resnet50", num_classes=7, layers=(1, 1, 1, 1))
    with torch.no_grad():
        for key, buffer in model.named_buffers():
            if "running" in key:
                buffer.add_(0.1 * torch.rand_like(buffer))
    randomize(model, 0.02)
    geometry = ResNetGeometry((64, 64), blocks=(1, 1, 1, 1), num_classes=7)
    state = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    files.write(tmp_path / "w.safetensors", state, {})
    params, report = import_weights(tmp_path / "w.safetensors", geometry=geometry)
    assert report.layout == "resnet"
    images = images_for(geometry)
    with torch.no_grad():
        logits = model(torch.from_numpy(images))
    mine, _ = backbones.run(geometry, params, np.moveaxis(images, -3, -1))
    assert_close("logits", mine["logits"], logits)
