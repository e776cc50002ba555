"""Frozen tokenizers: from the image, from pictures or ids of the data, from files and runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runs
import tiny
from ml_collections import ConfigDict
from PIL import Image

from maskjax import build
from maskjax.config import config_folder, load_config
from maskjax.errors import UserError
from maskjax.interop.convert import to_torch
from maskjax.interop.files import write
from maskjax.interop.layouts import dalle
from maskjax.interop.paths import flatten
from maskjax.pretext.visual_tokens import TOKENIZER, tokenizer
from maskjax.train.leaves import by_name

SMALL = {**TOKENIZER, "image_size": (8, 8), "vocab": 6, "width": 8, "groups": 2, "blocks": 1}
BATCH = tiny.batch(2, size=(16, 16))


def made(batch=BATCH, **changes):
    cfg = {"channels": 3, "mean": (0.4,) * 3, "std": (0.2,) * 3, "tokenizer": {**SMALL, **changes}}
    return tokenizer(ConfigDict(cfg, convert_dict=True), batch, (4, 4), jnp.float32)


def test_the_image_is_resized_as_pillow_does():
    found = np.asarray(made().picture(jnp.asarray(BATCH["image"])))
    expected = [Image.fromarray(x).resize((8, 8), Image.Resampling.LANCZOS) for x in BATCH["image"]]
    # Pillow rounds to whole grey levels, after each of the two directions.
    np.testing.assert_allclose(255 * found, np.stack(expected), atol=1.5)
    standardised = (BATCH["image"] / 255 - 0.4) / 0.2
    again = made().picture(jnp.asarray(standardised, jnp.float32))
    np.testing.assert_allclose(again, found, atol=1e-5)


def test_pictures_of_the_data_are_taken_as_they_are():
    pictures = {**BATCH, "small": tiny.images(2, seed=1)}
    one = made(pictures, field="small")
    params = one.init(jax.random.key(0))
    # Without its mean the last layer does not favour one token everywhere.
    last = params["encoder"]["output"]
    last["kernel"] = last["kernel"] - last["kernel"].mean(2, keepdims=True)
    ids = one.ids(params, pictures)
    assert ids.shape == (2, 16) and ids.dtype == jnp.int32
    np.testing.assert_array_equal(ids, one.ids(params, {**pictures, "image": None}))
    np.testing.assert_array_equal(ids, made().ids(params, {"image": pictures["small"]}))
    assert (ids != made().ids(params, BATCH)).any()


def test_ids_of_the_data_need_no_network():
    codes = np.arange(32, dtype=np.uint16).reshape(2, 4, 4)
    one = made({**BATCH, "codes": codes}, field="codes")
    assert one.init(jax.random.key(0)) == {} and one.flops == 0
    np.testing.assert_array_equal(one.ids({}, {**BATCH, "codes": codes}), codes.reshape(2, 16))


def test_what_does_not_fit_is_named():
    with pytest.raises(
        UserError, match=r"tokenizer\.field = 'image': has pictures of \(16, 16, 3\)"
    ):
        made(field="image")
    with pytest.raises(UserError, match=r"gives 2 x 2 tokens of 4 pixels"):
        made(groups=3)


def config(*overrides):
    options = [f"--config.{override}" for override in ("data.global_batch=8", *overrides)]
    return load_config("mim/cae:tiny", options)[0]


def test_a_file_with_official_names(tmp_path):
    whole = build.experiment(config(), 100)
    tree = tiny.filled(whole.abstract_state.extra["tokenizer"])
    path = tmp_path / "dalle_encoder.safetensors"
    write(path, to_torch(tree, dalle.rules(flatten(tree))), {})
    parts = build.experiment(config(f"model.tokenizer.file={path}"), 100)
    parts.check_init()
    found = by_name(parts.start().extra["tokenizer"])
    for name, leaf in by_name(tree).items():
        np.testing.assert_array_equal(found[name], leaf)
    with pytest.raises(UserError, match=r"config\.model\.tokenizer\.file: (.|\n)*blocks\.output"):
        other = config(f"model.tokenizer.file={path}", "model.tokenizer.vocab=17")
        build.experiment(other, 100).check_init()
    with pytest.raises(UserError, match=r"tokenizer\.file is empty: name the tokenizer's weights"):
        build.experiment(config("model.tokenizer.file="), 100).check_init()
    with pytest.raises(UserError, match="take the folder of a run, or leave the decoder out"):
        both = config(f"model.tokenizer.file={path}", "model.tokenizer.decoder=True")
        build.experiment(both, 100).check_init()


@pytest.mark.slow
def test_a_run_of_the_dvae_is_caes_tokenizer(tmp_path):
    """The whole chain, with no file from elsewhere; the decoder draws what is predicted."""
    options = ("train.steps=1", "optim.warmup_steps=0")
    dvae = f"--config={config_folder()}/generate/dvae.py:tiny"
    assert runs.train(tmp_path / "dvae", *options, config=dvae) == 0
    stored, _ = runs.saved_state(tmp_path / "dvae")
    chain = (f"model.tokenizer.file={tmp_path / 'dvae'}", "model.tokenizer.decoder=True")
    cae = f"--config={config_folder()}/mim/cae.py:tiny"
    assert runs.train(tmp_path / "cae", *options, *chain, config=cae) == 0
    found, _ = runs.saved_state(tmp_path / "cae")
    part = "extra/tokenizer/"
    kept = {name.removeprefix(part): x for name, x in found.items() if name.startswith(part)}
    assert any(name.startswith("decoder/") for name in kept)
    for name, leaf in kept.items():
        np.testing.assert_array_equal(leaf, stored[f"params/{name}"], err_msg=name)
    evaluators = "--evaluators=token_map,reconstruction"
    assert runs.maskjax("evaluate", f"--workdir={tmp_path / 'cae'}", evaluators) == 0
    assert {"token_map.png", "reconstruction.png"} <= {
        path.name for path in (tmp_path / "cae/pictures").iterdir()
    }
