"""Check this installation: versions, devices, mesh, a tiny training step, a gather gradient.

Exit code 1 if anything is wrong; the lines say what.
"""

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser):
    """`maskjax doctor` takes no arguments."""


def run(args: argparse.Namespace) -> int:
    """Prints one line a check."""
    from maskjax import doctor

    failed = 0
    for name, check in doctor.CHECKS.items():
        try:
            print(f"ok    {name}: {check()}", flush=True)
        except Exception as error:  # a doctor reports whatever it finds
            failed += 1
            print(f"FAIL  {name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    return 1 if failed else 0
