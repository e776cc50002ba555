"""docs/weights.md: its code for timm and transformers runs on the files that its commands write."""

import pytest

reason = "live parity needs PyTorch: `make test-torch`"
torch = pytest.importorskip("torch", reason=reason)
pytest.importorskip("transformers", reason=reason)
timm = pytest.importorskip("timm", reason=reason)

import weights_doc  # noqa: E402
from runs import maskjax  # noqa: E402

from maskjax.interop.hub_config import timm_arguments  # noqa: E402


def test_journeys(tmp_path, monkeypatch, capsys):
    weights_doc.prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    for argv in weights_doc.commands():
        assert maskjax(*argv) == 0, (argv, capsys.readouterr().err)
    shown = capsys.readouterr().out
    assert shown.count("largest absolute difference") == 2 and "DIFFERS" not in shown
    names, models = {}, []
    for block in filter(weights_doc.needs_torch, weights_doc.python()):
        exec(compile(block, "docs/weights.md", "exec"), names)
        models.append(names["model"])
    assert [type(model).__name__ for model in models] == ["VisionTransformer", "ViTModel"]
    assert models[0].num_classes == 10
    arguments = timm_arguments(weights_doc.TINY.encoder_only()) | {"num_classes": 10}
    model = timm.create_model(
        "vit_base_patch16_224.mae",
        pretrained=True,
        pretrained_cfg_overlay={"file": "encoder.safetensors", "input_size": (1, 8, 8)},
        **arguments,
    )
    assert torch.equal(model.norm.weight, models[0].norm.weight)
