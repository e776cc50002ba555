"""The golden files, through tests/golden.py; and the harness itself: what it must not let pass."""

import json
from pathlib import Path
from types import SimpleNamespace

import golden
import numpy as np
import pytest

from maskjax.masking.sampling import count_visible

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "golden"
FILES = sorted(path for path in FOLDER.glob("*.npz") if golden.adapter_for(path.stem))


@pytest.mark.skipif(not FOLDER.is_dir(), reason="no golden files: ../shared/golden is not there")
@pytest.mark.parametrize("path", FILES or [None], ids=lambda path: path.name if path else "none")
def test_file(path, capsys):
    name = golden.adapter_for(path.stem)
    if not hasattr(golden.load_adapter(name), "PARTIAL"):
        code = golden.run(str(path), None)
        assert code == 0, capsys.readouterr().out
        return
    # The method of this file is not there yet; what its adapter covers must agree all the same.
    rows = golden.check(golden.read(path), golden.load_adapter(name)).rows
    assert rows and all(row.ok for row in rows), [row for row in rows if not row.ok]


ARRAYS = {
    "config": np.array(json.dumps({"scale": 2.0})),
    "input/x": np.array([[1.0, -2.0, 3.0]], np.float32),
    "output/y": np.array([[2.0, -4.0, 6.0]], np.float32),
    "output/order": np.array([1, 0, 2], np.int32),
    "output/positive": np.array([[True, False, True]]),
    "table_json": np.array(json.dumps({"b": [0.5, 3], "a": "text"})),
}
RIGHT = {key: ARRAYS[key] for key in ARRAYS if key not in ("config", "input/x")}


def adapter(inputs=("config", "input/*"), looser=None, **changes):
    results = {**RIGHT, **changes}
    found = {key: value for key, value in results.items() if value is not None}
    return SimpleNamespace(INPUTS=inputs, outputs=lambda given: found, LOOSER=looser or {})


def verdicts(**changes):
    report = golden.check(ARRAYS, adapter(**changes))
    return {row.key: row.ok for row in report.rows}, report


def test_right_outputs_pass():
    _, report = verdicts()
    assert report.ok and len(report.rows) == 4


def test_adapter_sees_its_inputs_and_the_names_of_the_rest():
    seen = []
    spy = SimpleNamespace(INPUTS=("config", "input/*"), outputs=lambda g: seen.append(g) or RIGHT)
    golden.check(ARRAYS, spy)
    assert set(seen[0]) == {"config", "input/x"}
    assert set(seen[0].withheld) == set(RIGHT)


@pytest.mark.parametrize(
    "key, value",
    [
        ("output/y", np.array([[2.0, -4.0, 6.001]])),
        ("output/y", np.array([[2.0, -4.0, np.nan]])),
        ("output/y", np.array([[2.0, -4.0, np.inf]])),
        ("output/y", np.array([2.0, -4.0, 6.0])),
        ("output/order", np.array([0, 1, 2])),
        ("output/order", np.array([1.0, 0.0, 2.0])),
        ("output/positive", np.array([[True, True, True]])),
        ("output/positive", np.array([[1, 0, 1]])),
        ("table_json", json.dumps({"b": [0.6, 3], "a": "text"})),
        ("table_json", json.dumps({"b": [0.5, 3.0], "a": "text"})),
        ("table_json", json.dumps({"b": [0.5, 3], "a": "other"})),
        ("table_json", json.dumps({"b": [0.5], "a": "text"})),
        ("table_json", json.dumps({"b": [0.5, 3]})),
        ("table_json", "no JSON"),
    ],
)
def test_wrong_output_fails(key, value):
    ok, report = verdicts(**{key: value})
    assert not report.ok
    assert [name for name in ok if not ok[name]] == [key]


@pytest.mark.parametrize(
    "key, value",
    [
        ("output/y", np.array([[2.0, -4.0, 6.0005]])),
        ("output/order", np.array([1, 0, 2], np.uint8)),
        ("table_json", json.dumps({"a": "text", "b": [0.50001, 3]})),
    ],
)
def test_difference_within_the_rule_passes(key, value):
    assert verdicts(**{key: value})[1].ok


def test_places_that_are_not_finite_must_agree():
    expected = np.array([1.0, np.nan, np.inf])
    assert golden.compare("k", expected.copy(), expected).ok
    assert not golden.compare("k", np.array([1.0, np.nan, -np.inf]), expected).ok
    assert not golden.compare("k", np.array([1.0, 0.0, np.inf]), expected).ok


def test_uncovered_key_fails():
    _, report = verdicts(**{"output/order": None})
    assert report.uncovered == ["output/order"] and not report.ok


@pytest.mark.parametrize(
    "pattern", ["output/y", "output/*", "*", "out*", "*/y", "grad_raw/x", "grad*", "rec/loss"]
)
def test_results_are_refused_as_inputs(pattern):
    arrays = {**ARRAYS, "grad_raw/x": np.zeros(2), "rec/loss": np.zeros(())}
    with pytest.raises(golden.GoldenError, match="asks for a result"):
        golden.check(arrays, adapter(("config", pattern)))


def test_looser_bound_needs_a_reason():
    wrong = {"output/y": np.array([[2.0, -4.0, 6.001]])}
    assert verdicts(looser={"output/y": (1e-3, "a reason")}, **wrong)[1].ok
    with pytest.raises(golden.GoldenError, match="reason"):
        verdicts(looser={"output/y": (1e-3, "")}, **wrong)


def test_longest_adapter_name_is_taken():
    assert golden.adapter_for("mae") == golden.adapter_for("mae_large_7") == "mae"
    assert golden.adapter_for("mae_hf_2") == "mae_hf"
    assert golden.adapter_for("other") is None


def test_bad_files_are_told_clearly(tmp_path, capsys):
    broken = tmp_path / "mae.npz"
    broken.write_bytes(b"PK\x03\x04 not a whole archive")
    unknown = tmp_path / "other.npz"
    np.savez(unknown, x=np.zeros(1))
    assert golden.main([str(tmp_path / "mae_none.npz"), str(broken), str(unknown)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "No such file" in lines[0]
    assert "no whole .npz file" in lines[1]
    assert "no adapter fits" in lines[2]
    assert golden.main([str(unknown), "--adapter", "nothing"]) == 2


@pytest.mark.parametrize("damage", ["text", "array", "cut", "flipped"])
def test_damaged_files_are_told_clearly(damage, tmp_path, capsys):
    path = tmp_path / "mae.npz"
    np.savez_compressed(path, x=np.arange(10_000))
    whole = path.read_bytes()
    flipped = whole[:200] + bytes(255 - byte for byte in whole[200:260]) + whole[260:]
    kinds = {"text": b"no archive", "cut": whole[: len(whole) // 2], "flipped": flipped}
    if damage == "array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        path.write_bytes(kinds[damage])
    assert golden.main([str(path)]) == 2
    assert "is no whole .npz file" in capsys.readouterr().err


def test_failing_adapter_fails_its_file(tmp_path, capsys):
    path = tmp_path / "mae.npz"
    np.savez(path, **{"output/pred": np.zeros(1)})
    assert golden.main([str(path)]) == 1
    assert "adapter mae failed" in capsys.readouterr().out


# What a sheet names as given though another file has it as a result.
NAMED_AS_GIVEN = {"mto": {"mask/mask"}}


def test_inputs_of_mae_hold_no_result():
    results = ("lars/w1", "lars/b2", "sched/lr", "lrd/table_json", "mask/mask", "pos/interp_out")
    keys = {key: np.zeros(1) for key in results}
    for name in golden.adapter_names():
        given, _ = golden.divide(keys, golden.load_adapter(name).INPUTS)
        assert set(given) <= NAMED_AS_GIVEN.get(name, set()), name


def test_mae_adapter_takes_its_sizes_from_the_config():
    """Another size, non-square, one channel, another depth: every key and its shape."""
    from adapters import mae

    given, cfg = _other_given()
    found = {key: np.shape(value) for key, value in mae.outputs(given).items()}
    m, batch = cfg["model"], cfg["batch"]
    rows, columns = (side // m["patch_size"] for side in m["img_size"])
    tokens = rows * columns
    kept = 1 + count_visible(tokens, cfg["mask_ratio"])
    width, values = m["embed_dim"], m["patch_size"] ** 2 * cfg["in_chans"]
    assert found["output/latent"] == (batch, kept, width)
    assert found["output/latent_mask0"] == (batch, 1 + tokens, width)
    assert found["output/pred"] == (batch, tokens, values)
    assert found["output/enc_block1"] == (batch, kept, width)
    assert found["output/dec_block0"] == (batch, 1 + tokens, m["decoder_embed_dim"])
    assert found["output/vit_cls_logits"] == (batch, cfg["finetune"]["num_classes"])
    assert found["grad_norm/decoder_pred.bias"] == (values,)
    assert found["pos/sincos_3x7_dim16"] == (21, 16)
    assert not {key for key in found if key.startswith(("lars/", "sched/"))}


def _other_given():
    """What the adapter of MAE sees for a model of our own, exported to the official names."""
    import jax

    from maskjax.interop.convert import to_torch
    from maskjax.interop.layouts import LAYOUTS
    from maskjax.method import build_method
    from maskjax.nn.geometry import Geometry

    cfg = {
        "model": {"img_size": [12, 20], "patch_size": 4, "embed_dim": 24, "depth": 2}
        | {"num_heads": 3, "decoder_embed_dim": 16, "decoder_depth": 1, "decoder_num_heads": 2}
        | {"mlp_ratio": 2.5},
        "in_chans": 1,
        "norm_eps": 1e-5,
        "mask_ratio": 0.6,
        "batch": 2,
        "finetune": {"num_classes": 4, "layer_decay": 0.75, "weight_decay": 0.1},
    }
    images = np.random.default_rng(0).normal(size=(2, 1, 12, 20)).astype(np.float32)
    from adapters import _pretraining

    batch = {"image": np.moveaxis(images, 1, -1)}
    method = build_method("mim.mae", _pretraining.model_of(cfg), batch)
    params, _ = jax.jit(method.init)(jax.random.key(0), batch)
    arrays = to_torch(params, LAYOUTS["mae"](Geometry(**method.describe["geometry"])))
    arrays |= {"fc_norm.weight": np.ones(24, np.float32), "fc_norm.bias": np.zeros(24, np.float32)}
    arrays |= {"head.weight": np.ones((4, 24), np.float32), "head.bias": np.zeros(4, np.float32)}
    given = {f"param/{key}": array for key, array in arrays.items()}
    given |= {"config": np.array(json.dumps(cfg)), "input/images": images}
    given["noise/uniform"] = np.random.default_rng(1).random((2, 15), np.float32)
    return golden.Given(given, ("pos/sincos_3x7_dim16",)), cfg
