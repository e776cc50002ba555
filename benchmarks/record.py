"""What the benchmarks share: where they write, what they write beside their figures."""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from rounds import HERE, OUT

ROOT = HERE.parent
PACKAGES = ("maskjax", "jax", "jaxlib", "libtpu", "torch", "transformers")


def parser(doc: str | None) -> argparse.ArgumentParser:
    """An argument parser with --out."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--out", type=Path, help=f"JSON file; default in {OUT.relative_to(ROOT)}")
    return made


def prepare():
    """Before jax is imported: the package of this folder, and no search for accelerators.

    Raises:
        SystemExit: if jax is there already.
    """
    if "jax" in sys.modules:
        raise SystemExit("jax was imported before the benchmark could set it up")
    sys.path.insert(0, str(ROOT))
    from maskjax.cli.platform import choose_platform

    choose_platform()


def versions() -> dict[str, str]:
    """Of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write(out: Path | None, name: str, options: argparse.Namespace, found: dict[str, Any]):
    """Writes options, versions, machine and figures as JSON, and says where."""
    path = out or OUT / f"{name}.json"
    given = {key: value for key, value in vars(options).items() if key != "out"}
    about = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "versions": versions(),
        "options": given,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**about, **found}, indent=2, default=str) + "\n")
    print(f"written: {path}")
