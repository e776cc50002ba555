"""Write a run's weights under the names of a PyTorch code; needs no torch.

  maskjax export --workdir=runs/demo --format=timm --out=encoder.safetensors --check
  maskjax export --workdir=runs/demo --format=hf --out=hub/            # a folder with config.json
  maskjax export --workdir=runs/demo --format=stablehlo --out=encode.stablehlo

Formats: mae (official MAE: encoder + decoder), timm (ViT encoder), hf (transformers ViTMAE), hf_vit
(transformers ViT), native (any method, our own names), stablehlo (the compiled `encode`, weights
inside); docs/weights.md lists the others. Prints what the format cannot hold, and the lines of
PyTorch that load the file.
--check reads the file back, runs one fixed batch here and in PyTorch (where torch and timm or
transformers are installed), and prints the largest difference of each block; exit code 1 if any
differs by more than 1e-4 of its spread.
"""

import argparse
import os
import pathlib

from maskjax.cli.run_arguments import FORMATS, add_run_arguments, check_out, open_run
from maskjax.errors import UserError

WEIGHTS = (".safetensors", ".npz")
STABLEHLO = "stablehlo"


def add_arguments(parser: argparse.ArgumentParser):
    """Arguments of `maskjax export`."""
    add_run_arguments(parser)
    formats = (*FORMATS, "native", STABLEHLO)
    parser.add_argument(
        "--format", required=True, choices=formats, metavar="NAME", help="see above"
    )
    what = ".safetensors or .npz, or a folder (timm and Hugging Face)"
    parser.add_argument("--out", required=True, metavar="FILE", help=what)
    parser.add_argument("--what", choices=("full", "encoder"), default="full", help="default: full")
    parser.add_argument("--check", action="store_true", help="print the parity report")


def run(args: argparse.Namespace) -> int:
    """Writes the file and prints the reports."""
    if args.format == STABLEHLO:
        return _stablehlo(args)
    out = _out(args.out)
    import jax

    from maskjax.interop import export_weights
    from maskjax.interop.native import NATIVE, export_native
    from maskjax.train.fill import exported, method_geometry

    saved = open_run(args)
    settings = saved.settings
    params = jax.device_get(exported(saved.parts.method, saved.params, saved.extra))
    if args.format == NATIVE:
        print(export_native(params, settings, out))  # the values as they are: nothing to check
        return 0
    geometry = method_geometry(saved.parts.method)
    report = export_weights(params, geometry, settings, args.format, out, args.what)
    print(report)
    if not args.check:
        return 0
    from maskjax.interop.check import check_export

    parity = check_export(params, report, settings)
    print(parity)
    return 0 if parity.ok else 1


def _out(out: str) -> str:
    """Where the weights go; a name without suffix is a folder, which is made."""
    from maskjax.interop import folders

    if not out or not folders.is_folder_name(out):
        check_out(out, WEIGHTS)
        return out
    path = pathlib.Path(out)
    parent = path if path.is_dir() else path.resolve().parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise UserError(f"--out={out}: the folder {parent} does not exist or cannot be written to")
    return out


def _stablehlo(args: argparse.Namespace) -> int:
    check_out(args.out, (f".{STABLEHLO}",))
    if args.check:
        raise UserError("--check compares weights; stablehlo holds a program")
    from maskjax import stablehlo

    print(stablehlo.export_run(open_run(args), args.out))
    return 0
