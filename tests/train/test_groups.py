"""Path rules: first match wins, decay by path and not by rank, layer-wise rates, loud typos."""

import json

import jax
import numpy as np
import pytest

from maskjax.errors import UserError
from maskjax.train.groups import Group, ParamRules, leaf_names, parse_groups

DEPTH = 2


def leaf(*shape):
    return jax.ShapeDtypeStruct(shape, np.float32)


def vit(depth: int = DEPTH):
    """The paths of a small stacked ViT classifier (width 4, 2 heads)."""
    norm = {"scale": leaf(depth, 4), "bias": leaf(depth, 4)}
    head = {"kernel": leaf(depth, 4, 2, 2), "bias": leaf(depth, 2, 2)}
    linear = {"kernel": leaf(depth, 4, 4), "bias": leaf(depth, 4)}
    attn = {"query": head, "key": head, "value": head, "out": linear}
    blocks = {"norm1": norm, "attn": attn, "norm2": norm, "mlp": {"fc1": linear, "fc2": linear}}
    encoder = {
        "cls_token": leaf(4),
        "pos_embed": leaf(17, 4),
        "patch_embed": {"kernel": leaf(48, 4), "bias": leaf(4)},
        "blocks": blocks,
    }
    fc_norm = {"scale": leaf(4), "bias": leaf(4)}
    return {
        "encoder": encoder,
        "fc_norm": fc_norm,
        "head": {"kernel": leaf(4, 7), "bias": leaf(7)},
    }


def vit_layers(path: str):
    """MAE's ids (layer-wise decay of its fine-tuning)."""
    if path.startswith("encoder/blocks/"):
        return tuple(range(1, DEPTH + 1))
    first = path.startswith(("encoder/cls_token", "encoder/pos_embed", "encoder/patch_embed"))
    return 0 if first else DEPTH + 1


def by_name(tree):
    return dict(zip(leaf_names(tree), jax.tree.leaves(tree), strict=True))


def official_name(path: str) -> str:
    """Our path -> the name in the official table, `{i}` standing for the block."""
    name = path.removeprefix("encoder/").replace("blocks/", "blocks/{i}/")
    for part in ("query", "key", "value"):
        name = name.replace(f"attn/{part}/", "attn/qkv/")
    name = name.replace("attn/out/", "attn/proj/").replace("patch_embed/", "patch_embed/proj/")
    return name.replace("/kernel", "/weight").replace("/scale", "/weight").replace("/", ".")


def test_golden_layer_decay_table(golden):
    config, arrays = golden("mae")
    assert config["model"]["depth"] == DEPTH
    table = json.loads(str(arrays["lrd/table_json"]))
    tune = config["finetune"]
    rules = ParamRules(
        no_decay=r"(bias|scale|pos_embed|cls_token)$",
        layer_decay=tune["layer_decay"],
        layers=vit_layers,
    )
    tree = vit()
    seen = set()
    for path, factor in by_name(rules.multipliers(tree)).items():
        for i in range(DEPTH):
            name = official_name(path).format(i=i)
            decay = tune["weight_decay"] if rules.is_decayed(path) else 0.0
            value = factor.reshape(-1)[i] if factor.ndim else factor
            np.testing.assert_allclose([value, decay], table[name], rtol=1e-6)
            seen.add(name)
    assert seen == set(table)


def test_default_decay_is_that_of_mae_pretraining():
    decayed = {n for n, yes in by_name(ParamRules().decay_mask(vit())).items() if yes}
    assert "encoder/cls_token" in decayed, "(1, 1, D) in the official code, so it is decayed"
    assert "encoder/blocks/attn/query/kernel" in decayed
    # Stacked, these have two or three axes: a rule by rank would decay them.
    for name in ("norm1/scale", "attn/query/bias", "mlp/fc1/bias"):
        assert f"encoder/blocks/{name}" not in decayed


def test_multipliers_broadcast_to_their_leaves():
    rules = ParamRules(layer_decay=0.5, layers=vit_layers)
    factors = by_name(rules.multipliers(vit()))
    kernel = factors["encoder/blocks/attn/query/kernel"]
    assert kernel.shape == (DEPTH, 1, 1, 1) and kernel.dtype == np.float32
    np.testing.assert_allclose(kernel.ravel(), [0.25, 0.5])
    assert factors["encoder/cls_token"] == 0.125 and factors["head/kernel"] == 1.0


def test_none_from_layers_leaves_the_rate_alone():
    layers = lambda path: None if path.startswith("head") else vit_layers(path)  # noqa: E731
    factors = by_name(ParamRules(layer_decay=0.5, layers=layers).multipliers(vit()))
    assert factors["head/kernel"] == 1.0 and factors["fc_norm/scale"] == 1.0


def test_first_match_wins_and_factors_combine_with_depth():
    groups = parse_groups(
        [("patch_embed/kernel", "frozen"), ("patch_embed", "lr*0.1"), ("encoder/", "no_decay")],
        "config.optim.groups",
    )
    rules = ParamRules(groups, layer_decay=0.5, layers=vit_layers)
    labels, decay = by_name(rules.labels(vit())), by_name(rules.decay_mask(vit()))
    factors = by_name(rules.multipliers(vit()))
    assert [n for n, label in labels.items() if label == "frozen"] == ["encoder/patch_embed/kernel"]
    assert factors["encoder/patch_embed/bias"] == np.float32(0.1 * 0.125)
    assert factors["encoder/cls_token"] == 0.125
    assert not decay["encoder/cls_token"] and decay["head/kernel"]


@pytest.mark.parametrize("no_decay", ["", "head"])
def test_no_decay_regex_is_the_users(no_decay):
    decay = by_name(ParamRules(no_decay=no_decay).decay_mask(vit()))
    assert decay["encoder/blocks/norm1/bias"]
    assert decay["head/kernel"] == (no_decay == "")


def test_a_regex_without_a_match_is_an_error():
    groups = (Group("encoder/blokcs", "frozen", "config.optim.groups[0]"),)
    with pytest.raises(UserError, match=r"config\.optim\.groups\[0\].*blokcs.*encoder/blocks"):
        ParamRules(groups).check(vit())
    with pytest.raises(UserError, match=r"config\.optim\.no_decay"):
        ParamRules(no_decay="bais$").check(vit())
    ParamRules().check({"w": leaf(3, 3)})  # the default no_decay may match nothing


def test_scope_completes_the_paths_of_a_part():
    groups = (
        Group("^encoder/cls_token$", "frozen", "Method.groups[0]"),
        Group("^head/", "frozen", "Method.groups[1]"),
    )
    rules = ParamRules(groups, layer_decay=0.5, layers=vit_layers, scope="encoder")
    part = vit()["encoder"]
    rules.check(part)  # head/ is another optimizer's
    assert by_name(rules.labels(part))["cls_token"] == "frozen"
    assert by_name(rules.multipliers(part))["blocks/norm1/scale"].shape == (DEPTH, 1)


def test_layer_decay_needs_layers():
    with pytest.raises(UserError, match=r"config\.optim\.layer_decay"):
        ParamRules(layer_decay=0.5, layers=lambda path: None).check(vit())
    with pytest.raises(UserError, match=r"Method\.layers: 3 depth ids for encoder/blocks"):
        ParamRules(layer_decay=0.5, layers=lambda path: (1, 2, 3)).multipliers(
            {"encoder": {"blocks": {"bias": leaf(2, 4)}}}
        )


@pytest.mark.parametrize("action", ["freeze", "lr*", "lr*0", "lr*-1", "lr*inf", "lr*nan", "0.1"])
def test_unknown_actions(action):
    with pytest.raises(UserError, match=r"config\.optim\.groups\[1\]: unknown action"):
        parse_groups([("head", "frozen"), ("head", action)], "config.optim.groups")


@pytest.mark.parametrize(("entry", "text"), [("head", "pair"), (("(", "frozen"), "regular")])
def test_malformed_entries(entry, text):
    with pytest.raises(UserError, match=text):
        parse_groups([entry], "config.optim.groups")


def test_table_shows_every_leaf():
    groups = (
        Group("head/", "frozen", "config.optim.groups[0]"),
        Group("cls", "lr*0.1", "config.optim.groups[1]"),
    )
    text = ParamRules(groups, layer_decay=0.5, layers=vit_layers).table(vit())
    lines = {line.split()[0]: line for line in text.splitlines()}
    assert set(leaf_names(vit())) < set(lines)
    assert lines["head/kernel"].split()[-3:] == ["frozen", "0", "no"]
    assert "0.25 .. 0.5" in lines["encoder/blocks/mlp/fc1/kernel"]
    assert lines["encoder/cls_token"].split()[-3:] == ["lr*0.1", "0.0125", "yes"]
    assert text.splitlines()[-1].endswith("35 frozen")
