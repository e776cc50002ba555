"""What a config takes on a TPU slice or on GPU nodes: memory, traffic, speed. None has to be there.

  maskjax plan --config=mim/mae:h14 --topology=v5e:16x16
  maskjax plan --config=mim/mae:h14 --topology=v5e:16x16 --mesh=data=16,fsdp=16 --json=plan.json
  maskjax plan --config=mim/mae:l16 --topology=h100:4x8 --config.model.remat=dots
  maskjax plan --config=mim/mae:h14 --topology=v5e:4x4 --suggest
  maskjax plan --config=mim/mae:b16 --topology=help

Any laptop will do. With the target's compiler installed (pip install 'maskjax[aot]' for TPUs,
'maskjax[aot-gpu]' for GPUs; Linux) the real step is compiled for the target: memory, collectives
and errors are the compiler's own. Without it the step is traced and lowered only, activations are
estimated within a factor of 1.5, and collectives are unknown. What is not known says so.

--suggest tries meshes, remat and accumulation in the order of a rough time per step, and recommends
the first that fits: the exact batch is kept. Then it prints that one's plan.

The exit code is 0 if it fits, 1 if not, 3 if that is not known.
"""

import argparse
import json
import pathlib
import sys
from typing import TYPE_CHECKING, Any

from maskjax.errors import UserError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from maskjax.plan.hardware import Hardware
    from maskjax.plan.report import Plan

IMAGENET = 1_281_167
UNKNOWN_CODE = 3


def add_arguments(parser: argparse.ArgumentParser):
    """Arguments of `maskjax plan`."""
    parser.add_argument("--config", required=True, metavar="FILE[:ARG]", help="experiment, variant")
    parser.add_argument(
        "--topology",
        required=True,
        metavar="NAME",
        help="v5e:16x16, v4:4x4x4, h100:4x8 ...; help lists the valid ones",
    )
    parser.add_argument(
        "--mesh",
        metavar="AXIS=N,...",
        help="replica, data, fsdp, tensor; -1 = the rest; default config.mesh",
    )
    parser.add_argument("--mfu", type=float, default=0.4, help="for images/s; default 0.4")
    parser.add_argument("--json", metavar="FILE", help="also write it as JSON; - = print only that")
    parser.add_argument(
        "--estimate", action="store_true", help="do not compile, even where that is possible"
    )
    parser.add_argument(
        "--suggest", action="store_true", help="recommend mesh, remat, accumulation"
    )
    parser.add_argument(
        "--examples",
        type=int,
        default=IMAGENET,
        metavar="N",
        help="in the training set (the length of schedules); default ImageNet-1k's",
    )
    parser.set_defaults(overrides=[])


def run(args: argparse.Namespace) -> int:
    """Prints the plan."""
    from maskjax.config import load_config
    from maskjax.plan.hardware import hardware, valid_names

    if args.topology == "help":
        print(valid_names())
        return 0
    target = hardware(args.topology)
    if not 0 < args.mfu <= 1:
        raise UserError(f"--mfu={args.mfu:g}: must be a share, above 0 and at most 1")
    config, _ = load_config(args.config, args.overrides)
    if args.mesh:
        set_mesh(config, args.mesh, target.num_devices)
    if args.mesh and args.suggest:
        raise UserError(f"--suggest --mesh={args.mesh}: it chooses the mesh; leave one of them out")
    from maskjax.plan.report import make_plan
    from maskjax.plan.table import plan_text

    compiler = False if args.estimate else None
    options = {"num_examples": args.examples, "mfu": args.mfu, "compiler": compiler}
    plan = (_suggested if args.suggest else make_plan)(config, target, **options)
    if plan is None:
        return 1
    if args.json != "-":
        print(plan_text(plan))
    if args.json:
        _write_json(args.json, plan.to_json())
    return UNKNOWN_CODE if plan.fits is None else int(not plan.fits)


def _suggested(config: "ConfigDict", target: "Hardware", **options: Any) -> "Plan | None":
    """The plan of what is recommended, None if nothing is; prints what was tried."""
    from maskjax.plan.suggest import suggest
    from maskjax.plan.table import suggestion_text

    suggestion = suggest(config, target, **options)
    print(f"{suggestion_text(suggestion)}\n", file=sys.stderr)
    return suggestion.best[1] if suggestion.best else None


def set_mesh(config: "ConfigDict", text: str, num_devices: int):
    """Sets `config.mesh` from "data=16,fsdp=16"; axes that are not named are 1.

    One axis may be -1; without one the named axes must make all devices.

    Raises:
        UserError: saying what is valid.
    """
    from maskjax.train.sharding import MESH_AXES, mesh_shape

    sizes = {}
    for entry in text.split(","):
        axis, _, size = (part.strip() for part in entry.partition("="))
        if axis not in MESH_AXES or not size.removeprefix("-").isdigit():
            raise UserError(
                f"--mesh={text}: {entry!r} is not AXIS=N; axes: {', '.join(MESH_AXES)}; N: a"
                " number of devices, or -1 for what is left"
            )
        sizes[axis] = int(size)
    try:
        shape = mesh_shape(sizes, num_devices)
    except UserError as error:
        factors = [n for n in range(1, num_devices + 1) if num_devices % n == 0]
        raise UserError(
            f"--mesh={text}: {str(error).removeprefix('config.mesh: ')}; sizes that divide"
            f" {num_devices}: {', '.join(map(str, factors))}"
        ) from error
    config.mesh.update(dict(zip(MESH_AXES, shape, strict=True)))


def _write_json(path: str, values: dict):
    text = json.dumps(values, indent=2) + "\n"
    if path == "-":
        print(text, end="")
        return
    try:
        pathlib.Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--json={path}: cannot be written: {error.strerror}") from error
