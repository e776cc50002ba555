"""Write a run's weights under the names of a PyTorch code; needs no torch.

  maskjax export --workdir=runs/demo --format=timm --out=encoder.safetensors

Formats: mae (official MAE: encoder + decoder), timm (ViT encoder), hf (transformers ViTMAE).
Prints what the format cannot hold, and the lines of PyTorch that load the file.
"""

import argparse

from maskjax.cli.run_arguments import add_run_arguments, check_out, open_run


def add_arguments(parser: argparse.ArgumentParser):
    """Arguments of `maskjax export`."""
    add_run_arguments(parser)
    parser.add_argument("--format", required=True, choices=("mae", "timm", "hf"))
    parser.add_argument("--out", required=True, metavar="FILE", help=".safetensors or .npz")
    parser.add_argument("--what", choices=("full", "encoder"), default="full", help="default: full")


def run(args: argparse.Namespace):
    """Writes the file and prints the report."""
    check_out(args.out, (".safetensors", ".npz"))
    import jax

    from maskjax.interop import export_weights
    from maskjax.train.fill import method_geometry

    saved = open_run(args)
    method = saved.parts.method
    settings = {k: v for k, v in method.describe.items() if k not in ("geometry", "grid")}
    settings |= {"method": saved.config.method, "step": str(saved.step)}
    params = jax.device_get(saved.params)
    report = export_weights(
        params, method_geometry(method), settings, args.format, args.out, args.what
    )
    print(report)
