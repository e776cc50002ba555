"""Live parity with Hugging Face's ViTMAE: random weights in both directions, outputs, gradients.

Every tensor is drawn, biases, norm scales and tokens included, so that nothing agrees by being
zero. The fixed position tables are ours: transformers 5 leaves the decoder's at zero and can only
make square ones.
"""

import functools
import json

import numpy as np
import pytest

reason = "live parity needs PyTorch and transformers: `make test-torch`"
torch = pytest.importorskip("torch", reason=reason)
transformers = pytest.importorskip("transformers", reason=reason)

import golden  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from adapters import _pretraining as pretraining  # noqa: E402
from adapters import mae, mae_hf  # noqa: E402

from maskjax.interop import export_weights, import_weights, to_torch  # noqa: E402
from maskjax.interop.layouts import LAYOUTS  # noqa: E402
from maskjax.interop.rules import Constant, Rule  # noqa: E402

BASE = {
    "image_size": 32,
    "patch_size": 8,
    "num_channels": 3,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 192,
    "decoder_hidden_size": 32,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 4,
    "decoder_intermediate_size": 128,
    "layer_norm_eps": 1e-6,
    "mask_ratio": 0.75,
}
CASES = {
    "square": {},
    # 25 tokens at 0.6 keep 10; the library's own epsilon.
    "odd": {
        "image_size": 20,
        "patch_size": 4,
        "num_channels": 1,
        "mask_ratio": 0.6,
        "layer_norm_eps": 1e-12,
        "hidden_size": 24,
        "num_attention_heads": 3,
        "intermediate_size": 60,
        "num_hidden_layers": 1,
        "decoder_intermediate_size": 80,
        "decoder_num_hidden_layers": 2,
    },
    # 16 patches, so that transformers can make its (wrong, and overwritten) square table.
    "wide": {"image_size": [16, 64], "intermediate_size": 100, "decoder_num_attention_heads": 2},
}
BATCH = 3


class Case:
    """One random model of transformers, and the same model here."""

    def __init__(self, changes: dict, norm_pix: bool):
        entries = {**BASE, **changes, "norm_pix_loss": norm_pix}
        self.config = transformers.ViTMAEConfig(**entries)
        self.entries = mae_hf._model(self.config.to_dict())
        self.norm_pix = norm_pix
        torch.manual_seed(0)
        self.model = lenient(transformers.ViTMAEForPreTraining(self.config)).eval()
        height, width = np.broadcast_to(self.config.image_size, 2)
        shape = (BATCH, self.config.num_channels, height, width)
        self.images = torch.randn(shape)
        self.images[0, :, : self.config.patch_size, : self.config.patch_size] = 0.3
        self.noise = torch.rand(BATCH, height * width // self.config.patch_size**2)
        self.geometry = self.inputs({}).geometry
        randomize(self.model, self.geometry)

    def inputs(self, params: dict) -> pretraining.Inputs:
        images = pretraining.channels_last(self.images.numpy())
        return pretraining.Inputs(self.entries, params, images, jnp.asarray(self.noise.numpy()))

    def theirs(self):
        """Their outputs, and gradients by the names in memory."""
        self.model.zero_grad()
        outputs = self.model(self.images, noise=self.noise)
        outputs.loss.backward()
        latent = self.model.vit(self.images, noise=self.noise).last_hidden_state
        named = self.model.named_parameters()
        gradients = {key: p.grad.numpy() for key, p in named if p.grad is not None}
        return outputs, latent, gradients


def lenient(model):
    """The loss of transformers refuses images that are not square; its computation does not."""
    model.patchify = functools.partial(model.patchify.__func__, model)
    patchify = model.patchify
    model.patchify = lambda images, interpolate_pos_encoding: patchify(images, True)
    return model


@torch.no_grad()
def randomize(model, geometry):
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    tables = [rule for rule in LAYOUTS["hf5"](geometry) if isinstance(rule, Constant)]
    for rule in tables:
        model.get_parameter(rule.theirs).copy_(torch.from_numpy(rule.table().copy()))


@functools.cache
def case(name: str, norm_pix: bool) -> Case:
    return Case(CASES[name], norm_pix)


def assert_close(key, ours, theirs):
    row = golden.compare(key, ours, theirs.detach().numpy() if torch.is_tensor(theirs) else theirs)
    assert row.ok, row


@pytest.mark.parametrize(
    "name, norm_pix", [("square", False), ("square", True), ("odd", True), ("wide", False)]
)
def test_outputs_and_gradients(name, norm_pix, tmp_path):
    """Their file, read by its names on the hub: loss, logits, latent, mask, every gradient."""
    it = case(name, norm_pix)
    it.model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    params, _ = import_weights(path, geometry=it.geometry, format="hf")
    outputs, latent, gradients = it.theirs()
    seen = pretraining.predict(it.inputs(params), "activations")
    assert_close("logits", seen["prediction"], outputs.logits)
    assert_close("latent", seen["latent"], latent)
    assert_close("mask", seen["hidden"].astype(np.float32), outputs.mask)
    assert_close("ids_restore", seen["inverse"], outputs.ids_restore)
    loss, gradient = pretraining.loss_and_gradient(it.inputs(params), norm_pix=norm_pix)
    assert_close("loss", loss, outputs.loss)
    rules = tuple(rule for rule in LAYOUTS["hf5"](it.geometry) if isinstance(rule, Rule))
    ours = to_torch(gradient, rules)
    assert set(ours) == set(gradients)
    for key in ours:
        assert_close(key, ours[key], gradients[key])


def test_export_gives_the_same_model_in_transformers(tmp_path):
    """Our random weights, exported; their model is built by the very lines the export prints."""
    it = case("square", False)
    inputs = it.inputs({})
    init = jax.jit(inputs.method().init)
    params, _ = init(jax.random.key(1), {"image": inputs.images})
    draw = np.random.default_rng(0).normal
    params = jax.tree.map(lambda p: np.float32(p + draw(0, 0.05, p.shape)), params)
    inputs = it.inputs(params)
    settings = {"mask_ratio": it.config.mask_ratio, "norm_pix": it.norm_pix}
    report = export_weights(params, it.geometry, settings, "hf", tmp_path / "ours.safetensors")
    scope = {}
    exec(report.snippet, scope)
    theirs = scope["model"](it.images, noise=it.noise)
    seen = pretraining.predict(inputs, "activations", ("prediction",))
    assert_close("logits", seen["prediction"], theirs.logits)
    assert_close("loss", pretraining.loss(inputs, norm_pix=it.norm_pix), theirs.loss)
    again, _ = import_weights(tmp_path / "ours.safetensors")
    jax.tree.map(np.testing.assert_array_equal, again, params)


def test_golden_made_by_transformers():
    """The adapter of mae_hf.npz on a file of other options: no qkv bias, another epsilon."""
    changes = {**CASES["odd"], "qkv_bias": False, "layer_norm_eps": 1e-3}
    raw, norm = Case(changes, False), Case(changes, True)
    outputs, latent, _ = raw.theirs()
    arrays = {
        "config": np.array(json.dumps({"hf_config": raw.config.to_dict()})),
        "input/pixel_values": raw.images,
        "noise/uniform": raw.noise,
        "output/loss_raw": outputs.loss,
        "output/loss_norm": norm.theirs()[0].loss,
        "output/logits": outputs.logits,
        "output/last_hidden_state": latent,
        "mask/mask": outputs.mask,
        "mask/ids_restore": outputs.ids_restore,
    }
    arrays |= {f"param/{key}": tensor for key, tensor in raw.model.state_dict().items()}
    arrays = {k: v.detach().numpy() if torch.is_tensor(v) else v for k, v in arrays.items()}
    report = golden.check(arrays, mae_hf)
    assert report.ok and len(report.rows) == 6, report


def test_adapter_of_official_names_agrees_with_transformers(tmp_path):
    """The adapter of mae.npz on another size; their weights under the official names."""
    it = case("odd", True)
    it.model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    params, _ = import_weights(path, geometry=it.geometry, format="hf")
    arrays = to_torch(params, LAYOUTS["mae"](it.geometry))
    outputs, latent, gradients = it.theirs()
    given = {f"param/{key}": array for key, array in arrays.items()}
    given["noise/uniform"] = it.noise.numpy()
    inputs = mae._inputs(given | {"input/images": it.images.numpy()}, _official_config(it))
    found = mae._activations(inputs) | mae._losses(inputs)
    assert_close("pred", found["output/pred"], outputs.logits)
    assert_close("latent", found["output/latent"], latent)
    assert_close("loss", found["output/loss_norm"], outputs.loss)
    for ours, theirs in {
        "cls_token": "vit.embeddings.cls_token",
        "mask_token": "decoder.mask_token",
        "blocks.0.norm1.weight": "vit.layers.0.layernorm_before.weight",
        "decoder_embed.bias": "decoder.decoder_embed.bias",
        "patch_embed.proj.weight": "vit.embeddings.patch_embeddings.projection.weight",
    }.items():
        assert_close(ours, found[f"grad_norm/{ours}"], gradients[theirs])


def _official_config(it: Case) -> dict:
    encoder, decoder = it.entries["encoder"], it.entries["decoder"]
    model = {
        "img_size": it.config.image_size,
        "patch_size": it.config.patch_size,
        "embed_dim": encoder["dim"],
        "depth": encoder["depth"],
        "num_heads": encoder["heads"],
        "decoder_embed_dim": decoder["dim"],
        "decoder_depth": decoder["depth"],
        "decoder_num_heads": decoder["heads"],
        "mlp_ratio": encoder["mlp_ratio"],
    }
    settings = {"norm_eps": it.config.layer_norm_eps, "mask_ratio": it.config.mask_ratio}
    return {"model": model, "in_chans": it.config.num_channels, **settings}
