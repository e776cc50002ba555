"""What moves between devices: by kind, by bytes, and what should not move at all."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from maskjax.plan.collectives import (
    Collective,
    Total,
    bytes_of,
    collectives,
    foreign_gathers,
    group_size,
    totals,
)
from maskjax.plan.hlo import Program, Shape

GROUPS = "replica_groups={{0,1,2,3},{4,5,6,7}}"


def program(*lines, extra=""):
    body = "\n".join(f"  {line}" for line in lines)
    return Program(f"HloModule m\n{extra}\nENTRY %main (p: f32[4]) -> f32[4] {{\n{body}\n}}\n")


def parts(*lines, **options):
    """[(kind, parts as text, bytes)] of a program of these lines."""
    found = collectives(program(*lines, **options))
    return [(one.kind, [str(part) for part in one.parts], one.bytes) for one in found]


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        (GROUPS, 4),
        ("replica_groups={{0,1},{2,3}}, dimensions={1}", 2),
        ("replica_groups=[16,8]<=[128]", 8),
        ("replica_groups=[2,4]<=[4,2]T(1,0)", 4),
        ("replica_groups=mesh['axis_0'=16,'axis_1'=8] {'axis_1'}", 8),
        ("replica_groups=mesh['axis_0'=16,'axis_1'=8] {'axis_0','axis_1'}", 128),
        ("replica_groups=mesh['a'=4,'b'=1,'c'=2], device_ids=([2,4]T(1,0)) {'a'}, dims={0}", 4),
        ("replica_groups=mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'a':(2)2,'b'}", 4),
        ("dimensions={0}", 1),
    ],
)
def test_group_sizes(attributes, size):
    assert group_size(attributes) == size


def test_a_gather_counts_as_its_result_a_scatter_as_its_operand():
    assert parts(
        f"%g = bf16[8,4]{{1,0}} all-gather(%p), channel_id=1, {GROUPS}, dimensions={{0}}",
        f"%r = f32[2,4]{{1,0}} reduce-scatter(%p), channel_id=2, {GROUPS}, dimensions={{0}}",
    ) == [("all-gather", ["bf16[8,4]"], 64), ("reduce-scatter", ["f32[8,4]"], 128)]


def test_an_asynchronous_gather_is_one_and_without_its_operand():
    assert parts(
        f"%s = (bf16[2,4], bf16[8,4]) all-gather-start(%p), channel_id=1, {GROUPS}",
        "%d = bf16[8,4] all-gather-done(%s)",
        f"%t = ((f32[2], f32[1]), (f32[8], f32[4])) all-gather-start(%p, %p), {GROUPS}",
        f"%r = f32[6] all-reduce-start(%p), channel_id=3, {GROUPS}",
        "%e = f32[6] all-reduce-done(%r)",
    ) == [
        ("all-gather", ["bf16[8,4]"], 64),
        ("all-gather", ["f32[8]", "f32[4]"], 48),
        ("all-reduce", ["f32[6]"], 24),
    ]


def test_an_overlapped_gather_is_one_however_often_it_is_written():
    chain = 'frontend_attributes={chain_id="3"}'
    fusions = "\n".join(
        f"%f.{i} (p.{i}: bf16[1]) -> bf16[4] {{\n"
        f"  ROOT %g.{i} = bf16[4] all-gather(%p.{i}), channel_id=9, {GROUPS}, {chain}\n}}"
        for i in range(3)
    )
    calls = [f"%c.{i} = bf16[4] fusion(%p), kind=kCustom, calls=%f.{i}" for i in range(3)]
    assert parts(*calls, extra=fusions) == [("all-gather", ["bf16[4]"], 8)]


def test_a_fused_reduce_scatter_of_a_tpu_program():
    """An all-reduce in a fusion of that name; the channel may be that of another one."""
    fusions = "\n".join(
        f"%all-reduce-scatter.{i} (p.{i}: f32[8]) -> f32[2] {{\n"
        f"  %a.{i} = (f32[8], f32[16]) all-reduce(%p.{i}, %p.{i}), channel_id=1, {GROUPS}\n}}"
        for i in range(2)
    )
    calls = [f"%c.{i} = f32[2] fusion(%p), calls=%all-reduce-scatter.{i}" for i in range(2)]
    assert parts(*calls, extra=fusions) == [("reduce-scatter", ["f32[8]", "f32[16]"], 96)] * 2


def test_totals_add_up_by_kind_and_dtype():
    found = [
        Collective("all-gather", (Shape("bf16", (4,)),), 3, 4, ""),
        Collective("all-gather", (Shape("bf16", (8,)), Shape("f32", (1,))), 1, 4, ""),
        Collective("all-reduce", (Shape("f32", (100,)),), 1, 4, ""),
    ]
    assert totals(found) == {("all-reduce", "f32"): Total(1, 400), ("all-gather", "bf16"): (4, 44)}
    assert list(totals(found)) == [("all-reduce", "f32"), ("all-gather", "bf16")]
    assert bytes_of(found) == 444
    assert bytes_of(found, "all-gather", "all-to-all") == 44


def gather(*dims, executions=1):
    return Collective("all-gather", (Shape("bf16", dims),), executions, 4, "")


def test_gathers_of_parameters_are_known():
    stacked, single = (24, 8, 16), (7, 5)
    layer = gather(1, 8, 16, executions=24)
    assert foreign_gathers([layer, layer, gather(5, 7)], [stacked, single]) == []
    # A stack may also be gathered whole.
    assert foreign_gathers([gather(24, 8, 16)] * 2, [stacked]) == []


@pytest.mark.parametrize(
    "stranger", [gather(3, 5), gather(8, 16, executions=1), gather(24, 8, 16), gather(7, 5)]
)
def test_gathers_of_anything_else_are_found(stranger):
    """Also of an array with as many values as a parameter, which is gathered enough without it."""
    stacked, single = (24, 8, 16), (7, 5)
    known = [gather(8, 16, executions=24)] * 2 + [gather(7, 5)] * 2
    found = foreign_gathers([*known, stranger], [stacked, single])
    assert stranger in found


def test_other_kinds_are_no_gathers():
    assert foreign_gathers([Collective("all-reduce", (Shape("f32", (9,)),), 1, 4, "")], []) == []


@pytest.fixture(scope="module")
def mesh():
    return jax.make_mesh((2, 4), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)


def test_layers_that_are_gathered_in_a_loop(mesh):
    """5 layers of 16 x 32 floats, sharded over 4 devices, on this machine's emulated ones."""

    def forward(weights, x):
        weights = jax.lax.optimization_barrier(weights)

        def layer(x, w):
            whole = jax.lax.with_sharding_constraint(w, NamedSharding(mesh, P()))
            return jnp.tanh(x @ whole) @ whole.T, None

        return jax.lax.scan(layer, x, weights)[0]

    rows = NamedSharding(mesh, P(("data", "fsdp")))
    cut = NamedSharding(mesh, P(None, None, "fsdp"))
    step = jax.jit(forward, in_shardings=(cut, rows), out_shardings=rows)
    text = step.lower(jnp.zeros((5, 16, 32)), jnp.zeros((8, 16))).compile().as_text()
    found = collectives(Program(text))
    assert totals(found) == {("all-gather", "f32"): Total(5, 5 * 16 * 32 * 4)}
    assert {one.group for one in found} == {4}
    assert foreign_gathers(found, [(5, 16, 32)]) == []


def test_a_sum_over_all_devices(mesh):
    rows = NamedSharding(mesh, P(("data", "fsdp")))
    step = jax.jit(lambda x: x.sum(0), in_shardings=rows, out_shardings=NamedSharding(mesh, P()))
    found = collectives(Program(step.lower(jnp.zeros((8, 48))).compile().as_text()))
    assert totals(found) == {("all-reduce", "f32"): Total(1, 48 * 4)}
    assert {one.group for one in found} == {8}
