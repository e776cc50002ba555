"""Take weights from elsewhere into the folder of a run, or into a file for `config.init_from`.

  maskjax import --config=mim/mae:b16 --file=mae_visualize_vit_base.pth --out=runs/mae_b16
  maskjax import --config=mim/mae:b16 --file=hub/vit-mae-base --format=hf --out=mae.safetensors

A run's folder gets a checkpoint of step 0: maskjax evaluate, reconstruct, embed and export read it,
and `maskjax train --config.init_from=DIR` goes on from it. What is missing, left over or of another
shape is refused and named; --missing and --unused allow it by pattern.
"""

import argparse
import pathlib

from maskjax.cli.run_arguments import FORMATS, check_out
from maskjax.errors import UserError


def add_arguments(parser: argparse.ArgumentParser):
    """Arguments of `maskjax import`."""
    parser.add_argument("--config", required=True, metavar="FILE[:ARG]", help="experiment, variant")
    parser.add_argument("--file", required=True, metavar="FILE", help="weights, or their folder")
    parser.add_argument(
        "--format", choices=FORMATS, metavar="NAME", help="default: told by the file"
    )
    parser.add_argument("--out", required=True, metavar="DIR|FILE", help="run, or .safetensors")
    parser.add_argument(
        "--missing", nargs="+", default=[], metavar="PATTERN", help="may be missing: 'decoder/*'"
    )
    parser.add_argument(
        "--unused", nargs="+", default=[], metavar="PATTERN", help="may be left over: 'head.*'"
    )
    parser.set_defaults(overrides=[])


def run(args: argparse.Namespace):
    """Reads, and writes the folder or the file."""
    as_file = pathlib.Path(args.out).suffix in (".safetensors", ".npz")
    if as_file:
        check_out(args.out, (".safetensors", ".npz"))
    elif not args.out or (pathlib.Path(args.out) / "checkpoints").exists():
        raise UserError(f"--out={args.out}: there is a run already; name another folder")
    from maskjax import saved
    from maskjax.config import load_config
    from maskjax.train import fill, runtime

    config, overrides = load_config(args.config, args.overrides)
    runtime.enable_compile_cache()
    parts = saved.parts_of(config)
    order = fill.Order(
        fill.whole(parts.method),
        "init_from",
        args.file,
        args.format or "",
        fill.own_geometry(parts.method),
        tuple(args.missing),
        tuple(args.unused),
    )
    state = fill.put(parts.init(), [order])
    if as_file:
        _write_file(args.out, parts, state)
    else:
        saved.write_run(args.out, parts, state, overrides)
        print(f"{args.out}: a run at step 0; next: maskjax evaluate --workdir={args.out}")


def _write_file(out: str, parts, state):
    """Under official names where the method has a geometry, else under our own."""
    import jax

    from maskjax.interop import export_weights
    from maskjax.interop.native import export_native
    from maskjax.train.fill import exported, own_geometry

    settings = {k: v for k, v in parts.method.describe.items() if k not in ("geometry", "grid")}
    params = jax.device_get(exported(parts.method, state.params, state.extra))
    geometry = own_geometry(parts.method)
    if geometry is None:
        print(export_native(params, settings, out))
    else:
        print(export_weights(params, geometry, settings, "mae", out))
