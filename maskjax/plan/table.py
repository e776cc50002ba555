"""A `Plan` as text: one row a fact, "unknown" where it is not known."""

from collections.abc import Sequence

from maskjax.plan.hardware import GIB
from maskjax.plan.report import ESTIMATE_FACTOR, ESTIMATED, Plan
from maskjax.plan.suggest import Suggestion

UNKNOWN = "unknown"
_SHOWN = 5  # rows of a list before "and N more"


def plan_text(plan: Plan) -> str:
    """The whole plan for a terminal, the verdict last."""
    rows = [
        ("target", f"{plan.topology}: {plan.num_devices} x {plan.device_kind}"),
        ("mesh", mesh_text(plan.mesh)),
        ("batch", _batch(plan)),
        ("how", _how(plan)),
        ("parameters", f"{plan.num_parameters:,}"),
        *_memory_rows(plan),
        *_work_rows(plan),
        *_traffic_rows(plan),
    ]
    if plan.variants > 1:
        rows.append(("executables", f"{plan.variants}; this is of the first step's"))
    rows += [("whole", text) for text in _cut(plan.indivisible)]
    if plan.error:
        rows.append(("error", plan.error))
    rows += [("versions", ", ".join(f"{name} {v}" for name, v in plan.versions.items()))]
    rows += [("fits", verdict(plan))]
    return aligned(rows)


def suggestion_text(suggestion: Suggestion) -> str:
    """What was tried, a row each, then the recommendation."""
    head = ("mesh", "remat", "parts", "GiB", "fits", "by", "rough s")
    rows = [
        (
            mesh_text(plan.mesh),
            candidate.remat,
            str(candidate.accumulate),
            gib(plan.peak_bytes),
            yes_no(plan.fits),
            "estimate" if plan.how == ESTIMATED else "compiler",
            f"{candidate.seconds:.3g}",
        )
        for candidate, plan in suggestion.tried
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
    if suggestion.best is None:
        last = "nothing fits: take more devices, a smaller batch or a smaller model"
        if any(plan.fits is None for _, plan in suggestion.tried):
            last = "nothing is known to fit; the rows that say unknown may: compile them"
        return "\n".join([*lines, last])
    return "\n".join([*lines, f"recommended: {suggestion.best[0].flags}"])


def verdict(plan: Plan) -> str:
    """yes, no or unknown, with the reason."""
    if plan.peak_bytes is None:
        reason = "the compiler gave up on it" if plan.fits is False else "it did not compile"
        return f"{yes_no(plan.fits)}: {reason}"
    sizes = f"{gib(plan.peak_bytes)} of {gib(plan.usable_bytes)} GiB per device"
    margin = f", activations within a factor of {ESTIMATE_FACTOR:g}"
    return f"{yes_no(plan.fits)}: {sizes}{margin if plan.how == ESTIMATED else ''}"


def yes_no(value: bool | None) -> str:
    """A word for what is known, and one for what is not."""
    return UNKNOWN if value is None else "yes" if value else "no"


def gib(size: int | None) -> str:
    """Bytes as GiB with two digits, without the unit."""
    return UNKNOWN if size is None else f"{size / GIB:.2f}"


def mib(size: int) -> str:
    """Bytes as MiB, without the unit."""
    return f"{size / 2**20:,.0f}" if size >= 2**20 else f"{size / 2**20:.2g}"


def mesh_text(mesh: dict[str, int]) -> str:
    """The axes that are not 1."""
    axes = [f"{axis} {size}" for axis, size in mesh.items() if size > 1]
    return " x ".join(axes) or "one device"


def aligned(rows: Sequence[tuple[str, str]]) -> str:
    """Two columns."""
    width = max(len(name) for name, _ in rows)
    lines = []
    before = None
    for name, text in rows:
        lines.append(f"{'' if name == before else name:<{width}}  {text}")
        before = name
    return "\n".join(lines)


def _batch(plan: Plan) -> str:
    shards = plan.num_devices // plan.mesh["tensor"]
    parts = f", in {plan.accumulate} parts" if plan.accumulate > 1 else ""
    return f"{plan.batch:,} examples, {plan.batch // shards} per device{parts}; remat {plan.remat}"


def _how(plan: Plan) -> str:
    if plan.how != ESTIMATED:
        return f"{plan.how}, {plan.seconds:.0f} s"
    package = "aot" if "TPU" in plan.device_kind else "aot-gpu"
    return f"{plan.how} (pip install 'maskjax[{package}]' compiles)"


def _memory_rows(plan: Plan) -> list[tuple[str, str]]:
    parts = {
        "parameters": plan.parameter_bytes,
        "optimizer": plan.optimizer_bytes,
        "extra": plan.extra_bytes,
        "batch": plan.batch_bytes,
        "activations": plan.activation_bytes,
        "peak": plan.peak_bytes,
    }
    text = ", ".join(f"{name} {gib(size)}" for name, size in parts.items() if size != 0)
    return [("GiB per device", text)]


def _work_rows(plan: Plan) -> list[tuple[str, str]]:
    formula = f"{plan.flops / 1e12:,.1f} TFLOP" if plan.flops else f"{UNKNOWN} by formula"
    counted = ""
    if plan.counted_flops:
        counted = f"; XLA counts {plan.counted_flops / 1e12:,.1f}"
        if plan.flops:
            counted += f" ({100 * (plan.counted_flops / plan.flops - 1):+.1f} %)"
    rate = plan.images_per_second
    speed = UNKNOWN if rate is None else f"{rate:,.0f} images/s"
    if rate:
        speed += f" ({plan.batch / rate:.3g} s per step)"
    return [("work per step", formula + counted), (f"at {100 * plan.mfu:g} % MFU", speed)]


def _traffic_rows(plan: Plan) -> list[tuple[str, str]]:
    ideal = plan.ideal
    needed = (
        f"all-gather {mib(ideal.all_gather)}, reduce-scatter {mib(ideal.reduce_scatter)},"
        f" all-reduce {mib(ideal.all_reduce)}"
    )
    rows = [("MiB moved", f"{UNKNOWN}; parameters and gradients alone: {needed}")]
    if plan.collectives is not None:
        moved = [
            f"{kind} {dtype}: {mib(size)} in {executions}"
            for kind, dtype, executions, size in plan.collectives
        ]
        rows = [("MiB moved", text) for text in _cut(moved or ["nothing"])]
        rows.append(("MiB moved", f"(parameters and gradients alone: {needed})"))
    return rows


def _cut(texts: Sequence[str]) -> list[str]:
    more = len(texts) - _SHOWN
    return [*texts[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]
