"""The table of model x slice x mesh in docs/scale.md: every cell compiled for its slice.

    pip install -e '.[aot]'
    python benchmarks/plan_cells.py --out=cells.jsonl          # minutes a cell; can be interrupted
    python benchmarks/plan_cells.py --out=cells.jsonl --show   # the table of what is there

Each cell is MAE at the recipe's own batch, compiled in a process of its own, and one line of the
file. A cell that has not been compiled says "not run"; what a compiler's text does not tell says
"unknown". Sizes are GiB per device; "estimate" is what `maskjax plan --estimate` says of the
activations, without any compiler.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
os.environ["JAX_PLATFORMS"] = "cpu"  # before jax is imported: it would look for a TPU

MODELS = {"B": "mim/mae:b16", "L": "mim/mae:l16", "H": "mim/mae:h14"}
TOPOLOGIES = ("v5e:16x16", "v4:4x4x4", "v5p:4x4x4", "v6e:16x16")
# Axes of config.mesh; data takes the rest.
MESHES = {"DP": {}, "FSDP 16": {"fsdp": 16}, "tensor 4": {"tensor": 4}}
IMAGES = 1_281_167
Cell = tuple[str, str, str]


def cells() -> list[Cell]:
    """All of them, the most asked for first."""
    return list(itertools.product(TOPOLOGIES, reversed(MODELS), ("FSDP 16", "DP", "tensor 4")))


def plan_cell(cell: Cell, compiler: bool = True) -> dict[str, Any]:
    """The plan of a cell as JSON values, by the compiler or by the estimate."""
    from maskjax.config import load_config
    from maskjax.plan.hardware import hardware
    from maskjax.plan.report import make_plan

    topology, model, mesh = cell
    config, _ = load_config(MODELS[model])
    config.mesh.update(MESHES[mesh])
    options = {"num_examples": IMAGES, "compiler": compiler, "count_flops": False}
    return make_plan(config, hardware(topology), **options).to_json()


def read(path: Path) -> dict[Cell, dict[str, Any]]:
    """{cell: its plan} of the lines of a file."""
    if not path.is_file():
        return {}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {tuple(line["cell"]): line["plan"] for line in lines}


def run(path: Path):
    """Plans what the file lacks, one process a cell."""
    for cell in cells():
        if cell in read(path):
            continue
        command = [sys.executable, __file__, f"--out={path}", "--cell", *cell]
        done = subprocess.run(command, capture_output=True, text=True)
        last = (done.stderr.strip().splitlines() or [""])[-1]
        print(*cell, "done" if done.returncode == 0 else f"failed: {last}", flush=True)


def table(found: dict[Cell, dict[str, Any]]) -> str:
    """Markdown: a row per cell, and the versions."""
    head = ("model", "slice", "mesh", "batch per device", "state", "activations", "estimate")
    head += ("peak", "fits", "all-gather", "reduce-scatter", "all-reduce", "other")
    head += ("images/s at 40 % MFU",)
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for topology, model, mesh in itertools.product(TOPOLOGIES, MODELS, MESHES):
        cell = (topology, model, mesh)
        row = _row(found.get(cell), plan_cell(cell, compiler=False))
        lines.append(f"| {' | '.join((model, topology, mesh, *row))} |")
    versions = {tuple(plan["versions"].items()) for plan in found.values()}
    named = ["; ".join(f"{name} {version}" for name, version in one) for one in sorted(versions)]
    return "\n".join([*lines, "", f"Versions: {' / '.join(named)}."])


def _row(plan: dict[str, Any] | None, estimate: dict[str, Any]) -> list[str]:
    """From batch per device on; what only the compiler knows is "not run" without it."""
    from maskjax.plan.table import gib, yes_no

    state = sum(estimate[f"{part}_bytes"] for part in ("parameter", "optimizer", "extra"))
    batch = estimate["batch"] * estimate["mesh"]["tensor"] // estimate["num_devices"]
    row = [str(batch), gib(state)]
    row += [gib(plan["activation_bytes"]) if plan else "not run"]
    row += [gib(estimate["activation_bytes"])]
    if plan:
        row += [gib(plan["peak_bytes"]), yes_no(plan["fits"]), *_moved(plan["collectives"])]
    else:
        row += ["not run", f"{yes_no(estimate['fits'])} (estimate)", *["not run"] * 4]
    return [*row, f"{estimate['images_per_second']:,.0f}"]


def _moved(collectives: list | None) -> list[str]:
    """GiB by kind."""
    from maskjax.plan.table import UNKNOWN, gib

    kinds = ("all-gather", "reduce-scatter", "all-reduce")
    if collectives is None:
        return [UNKNOWN] * (len(kinds) + 1)
    sums = [sum(size for kind, _, _, size in collectives if kind == name) for name in kinds]
    return [gib(size) for size in (*sums, sum(row[3] for row in collectives) - sum(sums))]


def main():
    """Runs, or shows what there is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl")
    parser.add_argument("--show", action="store_true", help="only print the table")
    parser.add_argument("--cell", nargs=3, metavar=("SLICE", "MODEL", "MESH"), help="only this one")
    args = parser.parse_args()
    if args.cell:
        line = {"cell": args.cell, "plan": plan_cell(tuple(args.cell))}
        with args.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return
    if not args.show:
        run(args.out)
    print(table(read(args.out)))


if __name__ == "__main__":
    main()
