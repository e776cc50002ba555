"""Every method's training step beside MAE's, at one width: time, and FLOPs by formula and count.

    python benchmarks/methods.py [--only mim/mae mim/hpm] [--rounds 5] [--batch 8] [--out FILE.json]

Any config under configs/ takes part, as its variant b16 brought to ViT-Tiny's width with 6 layers
(and a decoder of 128 x 2), or as its demo where it has no such variant. Frozen teachers have the
student's size, but DMAE's, which is as much larger as ViT-L is than ViT-B. MAE appears with other
mask ratios as well: what it saves is told as a share of what the FLOPs promise. One process each,
on one core and one thread, in turn; compared are medians of process CPU time.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import record
from config_step import SIZE, experiment
from rounds import OUT, Contestant, add_options, measure, summarize

MAE = "mim/mae"
# Hidden share of the 196 patches: "all tokens" hides one, since something has to be predicted.
RATIOS = {"mask 0.9": 0.9, "mask 0.5": 0.5, "all tokens": 1 / 196}

EQUAL = ("dim=192", "depth=6", "heads=3", "mlp_hidden=768")
LARGER = ("dim=256", "depth=12", "heads=4", "mlp_hidden=1024")
# What has to follow the students' size. Learning rates are those of small batches.
TEACHERS = {
    "distill/dmae": (
        f"model.teacher.change={LARGER}",
        "model.teacher.blocks=9",
        "model.student_blocks=(4,)",
    ),
    "distill/maskalign": (
        f"model.teacher.change={EQUAL}",
        "model.teacher.blocks=6",
        "optim.min_lr=0.0",
    ),
    "distill/mr_mae": (f"model.teacher.change={EQUAL}",),
    "distill/hybrid_distill": tuple(
        f"model.{name}_teacher.change={EQUAL}" for name in ("feature", "relation")
    ),
}


class Entry(NamedTuple):
    """One row: a config and what is changed in it."""

    config: str
    overrides: tuple[str, ...] = ()
    size: dict[str, int] | None = SIZE


def entries() -> dict[str, Entry]:
    """{name: entry} of every config, MAE first, and of MAE at other mask ratios."""
    from maskjax.config import config_folder

    found = {MAE: Entry(f"{MAE}:b16")}
    for name, ratio in RATIOS.items():
        found[f"{MAE}, {name}"] = Entry(f"{MAE}:b16", (f"model.mask_ratio={ratio}",))
    for path in sorted(config_folder().glob("*/*.py")):
        name = str(path.relative_to(config_folder()).with_suffix(""))
        if name != MAE and not path.stem.startswith("_"):
            found[name] = entry(name)
    return found


def entry(name: str) -> Entry:
    """A config's b16 at the common size, or its demo as it is."""
    from maskjax.config import load_config
    from maskjax.errors import UserError

    try:
        load_config(f"{name}:b16")
    except UserError:
        return Entry(f"{name}:demo", size=None)
    return Entry(f"{name}:b16", TEACHERS.get(name, ()))


def flops(one: Entry, batch: int) -> dict[str, float]:
    """FLOPs of an image in a step: by the method's formula (0 without one) and by XLA's count."""
    from maskjax.plan.flops import counted_flops

    parts = experiment(one.config, one.overrides, batch, one.size)
    whole = one.config.partition(":")[0] in TEACHERS
    counted = counted_flops(parts.config, whole=whole) / batch
    return {"formula": parts.method.step_flops, "counted": counted}


def summary(seconds: dict[str, list[float]], work: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Ratios to MAE: how many times its time and its counted FLOPs a step takes."""
    reference = next(iter(seconds))
    rows = summarize(seconds)
    for name, row in rows.items():
        row |= work[name]
        row["time_ratio"] = 1 / row.pop("speed")
        row["flops_ratio"] = row["counted"] / work[reference]["counted"]
    return rows


def show(rows: dict[str, Any], options: argparse.Namespace):
    """Prints the table; the last column is the share of the saved FLOPs that is saved in time."""
    print(f"\nbatch {options.batch}, {options.rounds} rounds; ratios to {next(iter(rows))}")
    heads = ("GFLOP", "counted", "ms", "time", "FLOPs", "time/FLOPs")
    print(f"{'':28}" + "".join(f"{head:>11}" for head in heads))
    for name, row in rows.items():
        formula = f"{row['formula'] / 1e9:.2f}" if row["formula"] else "-"
        ratios = (row["time_ratio"], row["flops_ratio"], row["time_ratio"] / row["flops_ratio"])
        cells = [formula, f"{row['counted'] / 1e9:.2f}", f"{1000 * row['median_seconds']:.1f}"]
        cells += [f"{ratio:.2f}" for ratio in ratios]
        print(f"{name:28}" + "".join(f"{cell:>11}" for cell in cells))
    everything = rows.get(f"{MAE}, all tokens")
    if everything and MAE in rows:
        kept = everything["time_ratio"] / everything["flops_ratio"]
        print(
            f"mask 0.75 is {everything['time_ratio']:.2f} times as fast as all tokens:"
            f" {kept:.2f} of the {everything['flops_ratio']:.2f} that the FLOPs promise"
        )


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=(), metavar="NAME", help="these rows")
    parser.add_argument("--batch", type=int, default=8, help="images in a step")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    add_options(parser, rounds=5, units=2, unit="steps", out="methods.json")
    options = parser.parse_args(argv)
    if min(options.rounds, options.units, options.batch) < 1:
        parser.error("--rounds, --steps and --batch must be at least 1")
    options.out = options.out or OUT / "methods.json"
    return options


def main(argv: Sequence[str] | None = None):
    """The command."""
    options = parse(argv)
    record.prepare()
    known = entries()
    if strangers := [name for name in options.only if name not in known]:
        raise SystemExit(f"no row {', '.join(strangers)}; there are: {', '.join(known)}")
    dtype = f"model.dtype={options.dtype}"
    chosen = {
        name: one._replace(overrides=(*one.overrides, dtype))
        for name, one in known.items()
        if not options.only or name in options.only
    }
    work = {}
    for name, one in chosen.items():
        work[name] = flops(one, options.batch)
        print(f"counted: {name}", file=sys.stderr, flush=True)

    def start(name: str) -> Contestant:
        task = {"name": name, "batch": options.batch, "core": options.core}
        return Contestant("config_step.py", task | chosen[name]._asdict())

    seconds, _ = measure(list(chosen), start, rounds=options.rounds, units=options.units)
    rows = summary(seconds, work)
    show(rows, options)
    record.write(options.out, "methods", options, {"summary": rows, "seconds": seconds})


if __name__ == "__main__":
    main()
