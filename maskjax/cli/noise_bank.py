"""Make a bank of coloured noise, from which ColorMAE's masks are cut.

  maskjax noise-bank --color=green --out=green.npz
  maskjax noise-bank --color=red --sigmas=2 --size=512x512 --slices=128 --out=red.npz

Slice i depends on the seed and on i alone: the same arguments give the same file, and more slices
begin with the same ones. Read it with masking.load_bank; official ColorMAE reads it, too.
"""

import argparse
import re
import sys
from collections.abc import Iterator

from maskjax.cli.run_arguments import check_out
from maskjax.errors import UserError

COLORS = ("red", "green", "blue", "purple", "white")


def add_arguments(parser: argparse.ArgumentParser):
    """Arguments of `maskjax noise-bank`."""
    parser.add_argument("--color", required=True, choices=COLORS)
    parser.add_argument("--out", required=True, metavar="FILE", help=".npz")
    size = "side, or ROWSxCOLUMNS, in patches; default 256"
    parser.add_argument("--size", default="256", metavar="N", help=size)
    parser.add_argument("--slices", type=int, default=64, metavar="N", help="default 64")
    widths = "blur widths in patches: one for red and blue, two for green and purple"
    parser.add_argument("--sigmas", metavar="A[,B]", help=f"{widths}; default 1.5, and 0.7,2")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")


def run(args: argparse.Namespace):
    """Makes and writes."""
    out, size, sigmas = check_out(args.out, (".npz",)), _size(args.size), _sigmas(args.sigmas)
    if args.slices < 1:
        raise UserError(f"--slices={args.slices}: at least 1")
    if not 0 <= args.seed < 2**31:
        raise UserError(f"--seed={args.seed}: must be a number in 0..2147483647")
    import numpy as np

    from maskjax.masking import banks, noise_filters
    from maskjax.observe.files import replacing

    try:
        sigmas = noise_filters.widths(args.color, sigmas)
    except ValueError as error:
        raise UserError(f"--sigmas={args.sigmas}: {error}") from None
    try:
        bank = np.empty((args.slices, *size), np.float32)
        for number, made in _slices(args, size, sigmas):
            bank[number] = made
        with replacing(out) as temporary:
            about = {"color": args.color, "sigmas": sigmas, "seed": args.seed}
            banks.save_bank(temporary, bank, **about)
    except MemoryError:
        raise UserError(f"--size={args.size} --slices={args.slices}: not enough memory") from None
    except OSError as error:
        raise UserError(f"--out={args.out}: {error.strerror}") from None
    _tell(args, size, sigmas, out.stat().st_size)


def _slices(args: argparse.Namespace, size: tuple[int, int], sigmas: tuple) -> Iterator[tuple]:
    """(number, float32[rows, columns]) of each slice, with a line of progress."""
    import jax

    from maskjax.masking.banks import bank_slice
    from maskjax.train import runtime

    runtime.enable_compile_cache()
    make = jax.jit(lambda n: bank_slice(args.seed, n, args.color, size=size, sigmas=sigmas))
    live, step = sys.stderr.isatty(), max(args.slices // 10, 1)
    for number in range(args.slices):
        yield number, make(number)
        done = f"slice {number + 1} of {args.slices}"
        if live:
            print(f"\r\033[K{done}", end="", file=sys.stderr, flush=True)
        elif (number + 1) % step == 0 or number + 1 == args.slices:
            print(done, file=sys.stderr, flush=True)
    if live:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _tell(args: argparse.Namespace, size: tuple[int, int], sigmas: tuple, num_bytes: int):
    blurs = f", blur widths {' and '.join(f'{s:g}' for s in sigmas)} patches" if sigmas else ""
    shape = f"{args.slices} slices of {size[0]} x {size[1]}"
    print(f"{args.out}: {shape} of {args.color} noise{blurs}, {num_bytes // 1024:,} kB")
    print(f'bank = jax.device_put(masking.load_bank("{args.out}"))')
    print("masking.colored_from_bank(key, bank, (14, 14), num_visible=49)")


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    size = match and (int(match[1]), int(match[2] or match[1]))
    if not size or min(size) < 1:
        raise UserError(f"--size={text}: a side such as 256, or ROWSxCOLUMNS such as 256x512")
    return size


def _sigmas(text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(part) for part in text.split(",") if part)
    except ValueError:
        raise UserError(f"--sigmas={text}: numbers with commas, such as 0.7,2") from None
