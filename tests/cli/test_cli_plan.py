"""`maskjax plan`: the table, the JSON, exit codes, and what it says about wrong names."""

import json

import pytest
from runs import TINY, maskjax


def plan(*argv, config=TINY):
    return maskjax("plan", config, "--estimate", *argv)


def test_a_plan_and_its_json(tmp_path, capsys):
    path = tmp_path / "plan.json"
    assert plan("--topology=v5e:2x2", "--mesh=fsdp=2,data=-1", f"--json={path}") == 0
    shown = capsys.readouterr().out
    assert "mesh            data 2 x fsdp 2" in shown
    assert shown.splitlines()[-1].split()[:2] == ["fits", "yes:"]
    values = json.loads(path.read_text())
    assert values["mesh"] == {"replica": 1, "data": 2, "fsdp": 2, "tensor": 1}
    assert values["fits"] is True
    # XLA counts everything: here the optimizer, norms and masks are a large part of a tiny model.
    assert 1 <= values["counted_flops"] / values["flops"] < 3


def test_json_alone(capsys):
    assert plan("--topology=h100:1x4", "--json=-", "--config.model.remat=full") == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["remat"], values["num_devices"]) == ("full", 4)


def test_what_does_not_fit_is_exit_code_1(capsys):
    big = ("--config.data.global_batch=1048576", "--config.mesh.data=1")
    assert plan("--topology=v5e:1x1", *big, config="--config=mim/mae:b16") == 1
    assert "fits            no: " in capsys.readouterr().out


def test_the_valid_topologies(capsys):
    assert plan("--topology=help") == 0
    assert "v5e:{1x1,2x2,2x4," in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--topology=v9:2x2"], r"v5e:{1x1,2x2,2x4,4x4,4x8,8x8,8x16,16x16}"),
        (["--topology=h100:8"], "h100:NODESxGPUS"),
        (["--topology=v5e:0x2"], "is neither a TPU slice"),
        (["--topology=v5e:3x7"], "v5e:{1x1,"),
        (["--topology=v5e:2x2", "--mesh=model=4"], "axes: replica, data, fsdp, tensor"),
        (["--topology=v5e:2x2", "--mesh=fsdp"], "'fsdp' is not AXIS=N"),
        (["--topology=v5e:2x2", "--mesh=fsdp=3"], "sizes that divide 4: 1, 2, 4"),
        (
            ["--topology=v5e:2x2", "--config.data.global_batch=6"],
            "must be a positive multiple of 4",
        ),
        (["--topology=v5e:2x2", "--mfu=40"], "--mfu=40: must be a share"),
        (["--topology=v5e:2x2", "--json=/nowhere/x.json"], "cannot be written"),
    ],
)
def test_wrong_arguments(argv, message, capsys):
    assert plan(*argv) == 2
    assert message in capsys.readouterr().err
