"""Official weights of reference files, by the tables, in `TeacherViT`: the same activations."""

import json
from pathlib import Path

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskjax.interop import Geometry, import_weights, to_torch
from maskjax.interop.files import write
from maskjax.interop.layouts import rules_for
from maskjax.interop.paths import names_of
from maskjax.nn.position import sinusoid_1d
from maskjax.nn.teacher_vit import TeacherViT, to_patches

GOLDEN = Path(__file__).resolve().parents[2].parent / "shared" / "golden"
pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden vectors in {GOLDEN}")


class Reference:
    """A reference file; `load` takes its weights in as a file of their own, by official names."""

    def __init__(self, name: str):
        with np.load(GOLDEN / f"{name}.npz") as file:
            self.arrays = {key: file[key] for key in file.files}
        self.config = json.loads(str(self.arrays["config"]))

    def __getitem__(self, key: str) -> np.ndarray:
        return self.arrays[key]

    def load(self, folder, prefix: str, geometry: Geometry, format: str) -> dict:
        params = {k.removeprefix(prefix): v for k, v in self.arrays.items() if k.startswith(prefix)}
        path = folder / "official.safetensors"
        write(path, params, {})
        tree, report = import_weights(path, geometry=geometry, format=format, encoder_only=True)
        rules = rules_for(report.layout, geometry, names_of(params))
        for key, array in to_torch(tree, rules).items():
            np.testing.assert_array_equal(array, params[key], err_msg=key, strict=True)
        assert {*to_torch(tree, rules), *report.ignored} == params.keys()
        return tree

    def images(self, key: str) -> jax.Array:
        return jnp.moveaxis(jnp.asarray(self[key]), -3, -1)


def run(geometry, tree, images, *, ids=None, hidden=None, taps=("block",)):
    model = TeacherViT(geometry)

    def apply(tree, images):
        patches = to_patches(images, geometry)
        if ids is not None:
            patches = jnp.take_along_axis(patches, ids[..., None], 1)
        return model.apply({"params": tree}, patches, ids, hidden=hidden, taps=taps)

    return jax.jit(apply)(tree, images)


def assert_close(key, ours, theirs):
    row = golden.compare(key, np.asarray(ours), theirs)
    assert row.ok, row


def sizes(config, **changes):
    values = {
        "image_size": (config["img_size"],) * 2,
        "patch_size": config["patch_size"],
        "channels": 3,
        "dim": config["embed_dim"],
        "depth": config["depth"],
        "heads": config["num_heads"],
        "mlp_hidden": 4 * config["embed_dim"],
    }
    return values | changes


def test_clip_of_hugging_face(tmp_path):
    it = Reference("maskalign")
    config = it.config["teacher"]
    geometry = Geometry(
        (config["image_size"],) * 2,
        config["patch_size"],
        3,
        config["hidden_size"],
        config["num_hidden_layers"],
        config["num_attention_heads"],
        config["intermediate_size"],
        position="learned",
        patch_bias=False,
        pre_norm=True,
        activation="quick_gelu",
        eps=config["layer_norm_eps"],
    )
    tree = it.load(tmp_path, "param/teacher/", geometry, "hf_clip")
    images = it.images("output/teacher_pixel_values")
    _, seen = run(geometry, tree, images, taps=("input", "block", "attention/-1"))
    assert_close("hidden 0", seen["input"], it["output/teacher_hidden/0"])
    for i in range(geometry.depth):
        assert_close(f"hidden {i + 1}", seen["block"][i], it[f"output/teacher_hidden/{i + 1}"])
    assert_close("attention", seen["attention/-1"], it["output/teacher_attn_last"])


def test_mae_in_dmae(tmp_path):
    it = Reference("dmae")
    config = it.config["teacher"] | {k: it.config[k] for k in ("img_size", "patch_size")}
    geometry = Geometry(**sizes(config))
    tree = it.load(tmp_path, "param/teacher/", geometry, "mae")
    ids = jnp.asarray(it["mask/ids_keep"])
    tap = f"block/{it.config['teacher_block']}"
    out, seen = run(geometry, tree, it.images("input/images"), ids=ids, taps=(tap,))
    assert_close("aligned", seen[tap], it["output/teacher_aligned"])
    latent = jnp.concatenate([out["cls"][:, None], out["tokens"]], 1)
    assert_close("latent", latent, it["output/teacher_latent"])


def test_simmim(tmp_path):
    it = Reference("simmim")
    geometry = Geometry(
        **sizes(it.config["vit"]),
        position="none",
        relative="shared",
        qkv_bias="query_value",
        layer_scale=True,
        mask_token=True,
    )
    tree = it.load(tmp_path, "param/vit/", geometry, "simmim")
    mask = it["mask/vit/token_mask"]
    hidden = jnp.asarray(mask.reshape(len(mask), -1) > 0)
    out, seen = run(geometry, tree, it.images("input/vit/images"), hidden=hidden)
    for i in range(geometry.depth):
        assert_close(f"block {i}", seen["block"][i], it[f"output/vit/block{i}"])
    rows, columns = geometry.grid
    tokens = np.asarray(out["tokens"]).reshape(-1, rows, columns, geometry.dim)
    assert_close("encoder", np.moveaxis(tokens, -1, 1), it["output/vit/encoder_out"])


def test_cae(tmp_path):
    it = Reference("cae")
    options = {"qkv_bias": "query_value", "layer_scale": True}
    geometry = Geometry(**sizes(it.config), position="learned", **options)
    tree = it.load(tmp_path, "param/", geometry, "cae")
    visible = np.argsort(it["mask/masked"], axis=1, kind="stable")
    ids = jnp.asarray(visible[:, : (~it["mask/masked"].astype(bool))[0].sum()])
    out, _ = run(geometry, tree, it.images("input/image"), ids=ids)
    latent = jnp.concatenate([out["cls"][:, None], out["tokens"]], 1)
    assert_close("visible", latent, it["output/encoder_visible"])


def test_videomae(tmp_path):
    it = Reference("videomae_v2")
    config = it.config | {
        key: it.config[f"encoder_{key}"] for key in ("embed_dim", "depth", "num_heads")
    }
    geometry = Geometry(
        **sizes(config),
        position="sinusoid",
        cls=False,
        frames=config["num_frames"],
        tubelet=config["tubelet_size"],
        qkv_bias="query_value",
    )
    tree = it.load(tmp_path, "param/", geometry, "videomae")
    masked = it["mask/encoder_masked"].astype(bool)
    ids = jnp.asarray(np.argsort(masked, axis=1, kind="stable")[:, : (~masked)[0].sum()])
    clips = jnp.moveaxis(jnp.asarray(it["input/video_normalized"]), 1, -1)
    out, _ = run(geometry, tree, clips, ids=ids)
    assert_close("visible", out["tokens"], it["output/encoder_visible"])
    table = sinusoid_1d(geometry.num_patches, geometry.dim)
    assert_close("positions", table, it["output/pos_embed_encoder"].reshape(table.shape))
