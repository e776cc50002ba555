"""What masks would cost on a TPU, by the cost model of its compiler; no TPU is needed.

    pip install -e '.[aot]'
    python benchmarks/masks_tpu.py [--batch 4096 64] [--only NAME ...]

Compiles every generator of `masks.py` for one chip (v5e) ahead of time and adds up the cycles that
the compiler expects of each fused loop, loops multiplied out. It expects none of sorts: they are
charged as bitonic networks, log2(n) (log2(n) + 1) / 2 passes, each at the price that the compiler
puts on one elementwise pass over the same arrays in the chip's main memory. Compared with the
shortest step that there can be: the matmuls of MAE's ViT-B/16, forward and backward, at the
chip's peak rate, for as many images. A real step takes longer, so real shares are smaller. The
same numbers every time; an estimate, nothing has run.
"""

import argparse
import functools
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]
os.environ["JAX_PLATFORMS"] = "cpu"  # before jax is imported: it would look for a TPU

from contestants import SIZES, our_method  # noqa: E402
from masks import LIMIT, TOKENS, Generator, guided, spatial  # noqa: E402

from maskjax.errors import UserError  # noqa: E402
from maskjax.plan.hlo import Instruction, Program  # noqa: E402
from maskjax.plan.target import target  # noqa: E402

CHIP = "v5e:1x1"
# 197 TFLOP/s in bfloat16: four units of 128 x 128 at 1.5 GHz, two operations each.
FLOPS_PER_CYCLE, CYCLES_PER_SECOND = 4 * 128 * 128 * 2, 1.5e9


def compiled(fn: Callable[..., Any], *shapes: Any) -> Program:
    """The program for one chip; shapes are `jax.ShapeDtypeStruct`s with a batch axis in front."""
    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    mesh = Mesh(np.array(target(CHIP).devices), ("data",))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    placed = [jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=rows) for s in shapes]
    return Program(jax.jit(fn, out_shardings=rows).lower(*placed).compile().as_text())


def cycles(program: Program) -> int:
    """Cycles of one run: what the compiler expects of loops and copies, and our bound of sorts.

    Raises:
        ValueError: for a loop of unknown length, or a branch.
    """
    total, found = 0, list(program.instructions())
    bodies = {re.search(r"body=%?([\w.\-]+)", i.rest)[1] for i in found if i.opcode == "while"}
    strange = [i.name for i in program.unknown_loops()]
    strange += [i.name for i in found if i.opcode in ("call", "conditional")]
    if strange:
        raise ValueError(f"cycles of {', '.join(strange)} are not known")
    # What is inside a fused loop is counted with it.
    for instruction in (i for i in found if i.computation in {program.entry, *bodies}):
        times = program.executions[instruction.computation]
        expected = re.search(r'estimated_cycles":"(\d+)', instruction.rest)
        if expected:
            total += times * int(expected[1])
        elif instruction.opcode == "sort":
            total += times * _sort_cycles(instruction)
    return total


def _sort_cycles(sort: Instruction) -> int:
    """A bitonic network over the sorted axis."""
    axis = int(re.search(r"dimensions=\{(\d+)\}", sort.rest)[1])
    dims = sort.shapes[0].dims
    levels = math.ceil(math.log2(max(dims[axis], 2)))
    return levels * (levels + 1) // 2 * _pass_cycles(dims, len(sort.shapes))


@functools.cache
def _pass_cycles(dims: tuple[int, ...], num: int) -> int:
    """What the compiler expects of one compare-and-exchange over `num` arrays of 4 bytes."""
    import jax
    import jax.numpy as jnp

    def exchange(*both):
        less = both[0] < both[num]
        return [jnp.where(less, a, b) for a, b in zip(both[:num], both[num:], strict=True)]

    return cycles(compiled(exchange, *[jax.ShapeDtypeStruct(dims, jnp.float32)] * (2 * num)))


def generator_cycles(generator: Generator, batch: int) -> int:
    """The masks of a batch on one chip."""
    import jax
    import jax.numpy as jnp

    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch))
    arrays = [jax.ShapeDtypeStruct((batch, *shape), jnp.float32) for shape in generator.inputs]
    return cycles(compiled(jax.vmap(generator.draw), keys, *arrays))


def step_cycles(size: str, batch: int) -> float:
    """Matmuls of forward and backward pass at the chip's peak."""
    import numpy as np

    side = SIZES[size]["image"]
    example = {"image": np.zeros((1, side, side, 3), np.uint8)}
    method = our_method("ours/bfloat16/scan", SIZES[size], example)
    return batch * method.step_flops / FLOPS_PER_CYCLE


def main(argv: Sequence[str] | None = None):
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="base", help="of the MAE; default base")
    batches = "images on the chip; default 4096 64"
    parser.add_argument("--batch", type=int, nargs="+", default=[4096, 64], help=batches)
    parser.add_argument("--only", nargs="+", default=(), metavar="NAME", help="these generators")
    options = parser.parse_args(argv)
    if min(options.batch) < 1:
        parser.error("--batch must be at least 1")
    try:
        target(CHIP)
    except UserError as error:
        raise SystemExit(str(error)) from None
    generators = {**spatial(), **guided()}
    missing = [name for name in options.only if name not in generators]
    if missing:
        raise SystemExit(f"no generator {', '.join(missing)}; there are: {', '.join(generators)}")
    steps = [step_cycles(options.size, batch) for batch in options.batch]
    for batch, step in zip(options.batch, steps, strict=True):
        milliseconds = 1e3 * step / CYCLES_PER_SECOND
        print(f"{batch} images, {options.size}: the step takes at least {milliseconds:.1f} ms")
    print(f"\n{f'masks of {TOKENS} tokens':34}", *(f"{b:>10} {'share':>8}" for b in options.batch))
    for name in options.only or generators:
        row = f"{name:34}"
        for batch, step in zip(options.batch, steps, strict=True):
            found = generator_cycles(generators[name], batch)
            time = f"{1e3 * found / CYCLES_PER_SECOND:.3f} ms"
            row += f" {time:>10} {found / step:>7.2%}{'!' if found > LIMIT * step else '':1}"
        steps_of_law = generators[name].sequential
        print(f"{row}  sequential, {steps_of_law} steps" if steps_of_law else row, flush=True)


if __name__ == "__main__":
    main()
