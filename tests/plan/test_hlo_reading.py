"""Reading compiled programs: types, loops, and how often each computation runs."""

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskjax.plan.hlo import Program, Shape, elements, shapes

DTYPES = ("pred", "s4", "u8", "bf16", "f16", "f32", "s32", "f64", "f8e4m3fn")
SHAPES = st.builds(Shape, st.sampled_from(DTYPES), st.lists(st.integers(0, 4096)).map(tuple))

# As a TPU program is written: layouts with parentheses, no trip count, a comment in a tuple.
LOOP = """
HloModule jit_step, is_scheduled=true, input_output_alias={ {0}: (0, {}, may-alias), \
{1}: (3, {}, may-alias), {2}: (4, {1}, must-alias) }, entry_computation_layout={(f32[8]{0})->f32[8]}

%body (p: (s32[], f32[24,64])) -> (s32[], f32[24,64]) {
  %p = (s32[]{:T(128)}, f32[24,64]{1,0:T(8,128)S(1)}) parameter(0)
  %one = s32[]{:T(128)} constant(1)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %next = s32[] add(%i, %one)
  %x = f32[24,64]{1,0:T(8,128)} get-tuple-element(%p), index=1
  %sorted = (f32[24,64]{1,0:T(8,128)(2,1)}, /*index=1*/s32[24,64]{1,0}) sort(%x, %x), dimensions={1}
  ROOT %t = (s32[], f32[24,64]) tuple(%next, %x)
}

%cond (q: (s32[], f32[24,64])) -> pred[] {
  %other = s32[]{:T(128)} constant(7)
  %bound = s32[]{:T(128)} constant(24)
  %q = (s32[]{:T(128)}, f32[24,64]{1,0}) parameter(0)
  %j = s32[]{:T(128)} get-tuple-element(%q), index=0
  ROOT %less = pred[]{:T(512)} compare(%j, %bound), direction=LT, metadata={op_name="cond/lt"}
}

%unused (u: f32[2]) -> f32[2] {
  %u = f32[2]{0} parameter(0)
  ROOT %again = (f32[2], s32[2]) sort(%u, %u), dimensions={0}
}

ENTRY %main (a: s32[], b: f32[24,64]) -> f32[24,64] {
  %a = s32[]{:T(128)} parameter(0)
  %b = f32[24,64]{1,0:T(8,128)} parameter(1)
  %start = (s32[], f32[24,64]) tuple(%a, %b)
  %loop = (s32[], f32[24,64]) while(%start), condition=%cond, body=%body, \
metadata={op_name="jit(step)/while"}
  ROOT %out = f32[24,64]{1,0:T(8,128)} get-tuple-element(%loop), index=1
}
"""


@given(SHAPES)
def test_a_shape_reads_as_it_is_written(shape):
    assert shapes(f"{shape}{{1,0:T(8,128)(2,1)S(1)}}") == (shape,)


@given(st.lists(SHAPES, min_size=1, max_size=6))
def test_tuples_are_taken_apart(parts):
    written = "(" + ", ".join(f"{part}{{0:T(8,128)}}" for part in parts) + ")"
    assert shapes(written) == tuple(parts)
    assert [shapes(member) for member in elements(written)] == [(part,) for part in parts]
    nested = f"({written}, f32[3])"
    assert elements(nested) == [written, "f32[3]"]


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        (Shape("f32", (3, 4)), 12, 48),
        (Shape("bf16", ()), 1, 2),
        (Shape("s4", (3,)), 3, 2),
        (Shape("pred", (0, 5)), 0, 0),
    ],
)
def test_sizes(shape, size, expected):
    assert (shape.size, shape.bytes) == (size, expected)


def test_a_tpu_loop_runs_as_often_as_its_condition_says():
    program = Program(LOOP)
    assert program.entry == "main"
    assert program.executions["body"] == 24
    assert program.executions["main"] == 1
    assert program.executions["unused"] == 0
    assert program.unknown_loops() == []


def test_operations_are_counted_where_they_run():
    program = Program(LOOP)
    assert program.count("sort") == 1  # the one that nothing calls is left out
    assert program.count("scatter") == 0
    assert program.donated == 3
    loop = next(i for i in program.instructions() if i.opcode == "while")
    assert loop.source == "jit(step)/while"
    assert program.count("while") == 1


def test_a_stated_number_of_turns_wins():
    stated = 'backend_config={"known_trip_count":{"n":"5"}}'
    program = Program(LOOP.replace('metadata={op_name="jit(step)/while"}', stated))
    assert program.executions["body"] == 5


def test_a_loop_of_unknown_length_is_told_and_counts_once():
    program = Program(
        LOOP.replace("%bound = s32[]{:T(128)} constant(24)", "%bound = s32[] foo(%q)")
    )
    assert [loop.name for loop in program.unknown_loops()] == ["loop"]
    assert program.executions["body"] == 1


def test_text_without_a_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        Program("HloModule nothing\n")


def test_a_program_of_this_machine():
    """Scan in scan, a branch and a sort, compiled for the CPU."""

    def inner(x, _):
        return jnp.sort(x) + 1, None

    def outer(x, _):
        x = jax.lax.cond(x[0] > 0, lambda x: x * 2, lambda x: x[::-1], x)
        return jax.lax.scan(inner, x, length=3)[0], None

    fn = jax.jit(lambda x: jax.lax.scan(outer, x, length=5)[0], donate_argnums=0)
    program = Program(fn.lower(jnp.zeros(64)).compile().as_text())
    assert program.unknown_loops() == []
    assert program.count("sort") == 1
    (sort,) = (i for i in program.instructions() if i.opcode == "sort")
    assert program.executions[sort.computation] == 15
    assert program.donated == 1
