"""What masks would cost on a TPU, by the cost model of its compiler; no TPU is needed.

    pip install -c constraints.txt libtpu
    python benchmarks/masks_tpu.py [--batch 4096] [--only NAME ...]

Compiles every generator of `masks.py` for one chip (v5e) ahead of time and adds up the cycles that
the compiler expects of each fused loop, loops multiplied out. It expects none of sorts: they are
charged as bitonic networks, log2(n) (log2(n) + 1) / 2 passes, each at the price that the compiler
puts on one elementwise pass over the same arrays in the chip's main memory. Compared with the
shortest step that there can be: the matmuls of MAE's ViT-B/16, forward and backward, at the
chip's peak rate, for as many images. A real step takes longer, so real shares are smaller. The
same numbers every time; an estimate, nothing has run.
"""

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from contestants import SIZES, _our_method  # noqa: E402
from masks import LIMIT, TOKENS, Generator, guided, spatial  # noqa: E402

TOPOLOGY = "v5e:1x1"
# 197 TFLOP/s in bfloat16: four units of 128 x 128 at 1.5 GHz, two operations each.
FLOPS_PER_CYCLE, CYCLES_PER_SECOND = 4 * 128 * 128 * 2, 1.5e9
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
}
COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
OPERATION = re.compile(r"= (.*?[\])}]) ([\w\-]+)\(")


class Cost(NamedTuple):
    """Cycles of one call.

    Attributes:
        loops: fused loops and copies, by the compiler.
        sorts: by our bound.
    """

    loops: int
    sorts: int

    @property
    def cycles(self) -> int:
        """Both."""
        return self.loops + self.sorts


def compiled_text(fn: Callable[..., Any], *shapes: Any) -> str:
    """The program for one chip as optimised HLO; shapes are `jax.ShapeDtypeStruct`s."""
    import jax
    import numpy as np
    from jax.experimental import topologies
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    devices = topologies.get_topology_desc(TOPOLOGY, platform="tpu").devices
    whole = NamedSharding(Mesh(np.array(devices[:1]), ("data",)), PartitionSpec("data"))
    placed = [jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=whole) for s in shapes]
    return jax.jit(fn, out_shardings=whole).lower(*placed).compile().as_text()


def cost(text: str) -> Cost:
    """Cycles of an optimised HLO program."""
    loops, sorts = 0, 0
    for line, times in executed(text):
        found = re.search(r'estimated_cycles":"(\d+)', line)
        operation = OPERATION.search(line)
        if found:
            loops += times * int(found[1])
        elif operation and operation[2] == "sort":
            sorts += times * sort_cycles(line)
    return Cost(loops, sorts)


def executed(text: str) -> Iterator[tuple[str, int]]:
    """(instruction, how often) of the entry and of loop bodies; fused instructions are one."""
    computations, current, entry = {}, None, ""
    for line in text.splitlines():
        begin = COMPUTATION.match(line)
        if begin:
            current = computations[begin[2]] = []
            entry = begin[2] if begin[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None:
            current.append(line)

    def walk(name: str, times: int) -> Iterator[tuple[str, int]]:
        for line in computations[name]:
            yield line, times
            operation = OPERATION.search(line)
            kind = operation[2] if operation else ""
            if kind == "while":
                body, condition = (
                    re.search(rf"{part}=%?([\w.\-]+)", line)[1] for part in ("body", "condition")
                )
                yield from walk(body, times * _trips(line, computations[condition]))
            elif kind in ("call", "conditional"):
                raise NotImplementedError(f"cycles of a {kind}: {line.strip()[:120]}")

    yield from walk(entry, 1)


def _trips(line: str, condition: list[str]) -> int:
    """How often a loop runs: as it says, or the bound in its condition."""
    known = re.search(r'known_trip_count"?:\{"?n"?:"?(\d+)', line)
    bounds = re.findall(r"s32\[\]\S* constant\((\d+)\)", "\n".join(condition))
    if not known and not bounds:
        raise NotImplementedError(f"a loop without a bound: {line.strip()[:120]}")
    return int(known[1]) if known else max(map(int, bounds))


def sort_cycles(line: str) -> int:
    """Cycles of a sort instruction, as a bitonic network."""
    operands = re.findall(r"([fsu]\d+|pred)\[([\d,]+)\]", OPERATION.search(line)[1])
    axis = int(re.search(r"dimensions=\{(\d+)\}", line)[1])
    shape = tuple(int(size) for size in operands[0][1].split(","))
    levels = math.ceil(math.log2(max(shape[axis], 2)))
    return levels * (levels + 1) // 2 * _pass_cycles(shape, len(operands))


def _pass_cycles(shape: tuple[int, ...], num: int, known: dict = {}) -> int:  # noqa: B006
    """What the compiler expects of one compare-and-exchange over `num` arrays of 4 bytes."""
    import jax
    import jax.numpy as jnp

    if (shape, num) not in known:
        arrays = [jax.ShapeDtypeStruct(shape, jnp.float32)] * (2 * num)

        def exchange(*both):
            less = both[0] < both[num]
            return [jnp.where(less, a, b) for a, b in zip(both[:num], both[num:], strict=True)]

        known[shape, num] = cost(compiled_text(exchange, *arrays)).loops
    return known[shape, num]


def generator_cost(generator: Generator, batch: int) -> Cost:
    """The masks of a batch on one chip."""
    import jax
    import jax.numpy as jnp

    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch))
    arrays = [jax.ShapeDtypeStruct((batch, *shape), jnp.float32) for shape in generator.inputs]
    return cost(compiled_text(jax.vmap(generator.draw), keys, *arrays))


def step_cycles(size: str, batch: int) -> float:
    """Matmuls of forward and backward pass at the chip's peak."""
    import numpy as np

    side = SIZES[size]["image"]
    example = {"image": np.zeros((1, side, side, 3), np.uint8)}
    method = _our_method(SIZES[size], "bfloat16", "on", example)
    return batch * method.step_flops / FLOPS_PER_CYCLE


def main(argv: list[str] | None = None):
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="base", help="of the MAE; default base")
    parser.add_argument("--batch", type=int, nargs="+", default=[4096, 64], help="images a chip")
    parser.add_argument("--only", nargs="+", default=(), metavar="NAME", help="these generators")
    options = parser.parse_args(argv)
    os.environ.update(ENVIRONMENT)
    try:
        import libtpu  # noqa: F401
    except ImportError:
        raise SystemExit("needs the TPU compiler: pip install -c constraints.txt libtpu") from None
    generators = {**spatial(), **guided()}
    steps = [step_cycles(options.size, batch) for batch in options.batch]
    for batch, cycles in zip(options.batch, steps, strict=True):
        milliseconds = 1e3 * cycles / CYCLES_PER_SECOND
        print(f"{batch} images, {options.size}: the step takes at least {milliseconds:.1f} ms")
    print(f"\n{f'masks of {TOKENS} tokens':34}", *(f"{b:>10} {'share':>8}" for b in options.batch))
    for name in options.only or generators:
        row = f"{name:34}"
        for batch, cycles in zip(options.batch, steps, strict=True):
            found = generator_cost(generators[name], batch).cycles
            over = "!" if found > LIMIT * cycles else ""
            time = f"{1e3 * found / CYCLES_PER_SECOND:.3f} ms"
            row += f" {time:>10} {found / cycles:>7.2%}{over:1}"
        print(row, flush=True)


if __name__ == "__main__":
    main()
