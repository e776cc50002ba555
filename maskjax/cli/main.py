"""Entry point: finds the subcommand, turns user errors into one line and exit code 2."""

import argparse
import importlib
import keyword
import sys
from collections.abc import Sequence

from maskjax import __version__
from maskjax.cli.platform import choose_platform, steady_emulated_devices
from maskjax.errors import UserError

# Command -> what it does. Each is a module here with `add_arguments(parser)` and `run(args)`;
# it is imported only when asked for, so that `--help` stays quick.
COMMANDS = {
    "train": "train a method from a config, or resume a run",
    "replay": "do steps of a run again from a checkpoint: the same, bit for bit?",
    "evaluate": "score a run (kNN, linear probe, ...) beside its baselines; write its report",
    "compare": "train several experiments on one budget; write one page about them",
    "leaderboard": "put many runs side by side: scores over images, FLOPs and minutes",
    "reconstruct": "draw what a run makes of your images",
    "explain": "which parts of an image a classifier looks at; tests of missing pixels",
    "embed": "write features of any image set to a file",
    "export": "write a run's weights for PyTorch (official MAE, timm, Hugging Face)",
    "import": "take such weights in, as a run or as a file to start from",
    "plan": "what a config takes on a TPU slice or on GPU nodes, without having them",
    "data": "look at training data: contents, pictures, broken files, reading speed",
    "data-prepare": "write an image set again, reduced and in shards",
    "data-stats": "channel mean and standard deviation of an image set",
    "gallery": "draw every mask generator on a photograph: a sheet and an HTML page",
    "noise-bank": "make a bank of coloured noise for ColorMAE's masks",
    "doctor": "check this installation: versions, devices, a tiny step",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `maskjax COMMAND ...`; returns the exit code (0, 1 = run failed, 2 = wrong input)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    if not argv:
        parser.print_help()
        return 2
    if argv[0] in COMMANDS:
        return _run(argv[0], argv[1:])
    parser.parse_args(argv)  # --help, --version, or an unknown command
    return 2


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog="maskjax",
        description="Training with masks in JAX.",
        epilog="\n".join(["commands:", *lines, "", "maskjax COMMAND --help explains each."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"maskjax {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    return parser


def _run(command: str, argv: Sequence[str]) -> int:
    name = command.replace("-", "_")
    name += "_" if keyword.iskeyword(name) else ""
    module = importlib.import_module(f"maskjax.cli.{name}")
    parser = argparse.ArgumentParser(
        prog=f"maskjax {command}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    args, rest = parser.parse_known_args(argv)
    takes_overrides = hasattr(args, "overrides")
    strangers = [a for a in rest if not (takes_overrides and a.startswith("--config."))]
    if strangers:
        hint = "; write overrides as --config.key=value" if takes_overrides else ""
        parser.error(f"unknown argument {strangers[0]!r}{hint}")
    if takes_overrides:
        args.overrides = rest
    choose_platform()
    steady_emulated_devices()
    try:
        return module.run(args) or 0
    except UserError as error:
        print(f"maskjax {command}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"maskjax {command}: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
