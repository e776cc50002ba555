"""What the command says before it does anything."""

import subprocess
import sys
import time

import pytest
from runs import maskjax

import maskjax as package
from maskjax.cli.main import COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(command, capsys):
    assert maskjax(command, "--help") == 0
    shown = capsys.readouterr().out
    assert f"usage: maskjax {command}" in shown
    assert len(shown.splitlines()) > 5
    assert max(map(len, shown.splitlines())) <= 100


def test_the_list_of_commands(capsys):
    assert maskjax("--help") == 0
    shown = capsys.readouterr().out
    for command, what in COMMANDS.items():
        assert f"{command} " in shown
        assert what in shown


def test_version(capsys):
    assert maskjax("--version") == 0
    assert capsys.readouterr().out == f"maskjax {package.__version__}\n"


def test_no_command_shows_the_help(capsys):
    assert maskjax() == 2
    assert "commands:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nope"], "invalid choice: 'nope'"),
        (["train"], "required: --config, --workdir"),
        (["train", "--config=x"], "required: --workdir"),
        (["evaluate"], "required: --workdir"),
        (["evaluate", "--workdir=x", "--step=y"], "--step: invalid int value: 'y'"),
        (["export", "--workdir=x", "--out=y"], "required: --format"),
        (["export", "--workdir=x", "--out=y", "--format=z"], "invalid choice: 'z'"),
        (["doctor", "--nope"], "unknown argument '--nope'"),
        (["embed", "--workdir=x", "--data=y", "--out=z", "--config.a=1"], "'--config.a=1'"),
        (["train", "--config=x", "--workdir=y", "nope"], "unknown argument 'nope'"),
        (["train", "--config=x", "--workdir=y", "--config.a", "5"], "write overrides as --config."),
    ],
)
def test_wrong_arguments(argv, message, capsys):
    assert maskjax(*argv) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert "usage: maskjax" in shown.err
    assert shown.out == ""


HEAVY = ("jax", "numpy", "flax", "orbax", "grain", "matplotlib", "sklearn", "PIL")


def test_help_loads_nothing_heavy():
    """In a fresh process: with one heavy import, help would take seconds."""
    code = (
        "import sys\nfrom maskjax.cli import main\n"
        f"for argv in [['--help'], *([c, '--help'] for c in {list(COMMANDS)})]:\n"
        "    try: main.main(argv)\n    except SystemExit: pass\n"
        f"print('LOADED', [m for m in {HEAVY} if m in sys.modules])"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED []", done.stdout
    assert time.perf_counter() - start < 20  # a second when nothing else runs


def test_as_a_module():
    command = [sys.executable, "-m", "maskjax", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"maskjax {package.__version__}\n"
