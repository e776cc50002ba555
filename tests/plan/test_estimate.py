"""Arrays followed through a traced program, by hand."""

import jax
import jax.numpy as jnp
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax.plan.estimate import Sizes, _peak

KIB = 256  # float32 values


def peak(fn, *shapes, shares=None):
    args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]

    return _peak(jax.make_jaxpr(fn)(*args).jaxpr, Sizes(shares or {}))


def test_inputs_are_free_and_a_chain_holds_two_arrays():
    assert peak(lambda x: jnp.sin(jnp.cos(jnp.tan(x))), (KIB,)) == 2048


def test_what_is_read_late_stays():
    def fn(x):
        early = jnp.sin(x)
        y = jnp.cos(jnp.tan(jnp.exp(x)))
        return y + early

    assert peak(fn, (KIB,)) == 3072


def test_views_take_nothing_and_keep_what_they_look_at():
    def fn(x):
        seen = jnp.sin(x).reshape(16, 16).T
        y = jnp.cos(jnp.tan(x))
        return seen.sum() + y.sum()

    assert peak(fn, (KIB,)) == 3072 + 0


def test_unused_results_take_nothing():
    assert peak(lambda x: (jnp.sin(x), x)[1], (KIB,)) == 0


def test_a_loop_holds_its_stack_and_one_turn():
    def fn(x):
        def body(x, _):
            y = jnp.sin(x)
            return jnp.cos(y), y

        return jax.lax.scan(body, x, length=5)

    # The stack of 5 and the last carry; inside two arrays.
    assert peak(fn, (KIB,)) == (5 + 1 + 2) * 1024


def test_a_called_function_counts_like_its_body():
    inner = jax.jit(lambda x: jnp.sin(jnp.cos(jnp.tan(x))))
    assert peak(inner, (KIB,)) == 2048


def test_gradients_of_parameters_count_as_shards():
    def gradient(x, y):
        return jnp.einsum("bi,bj->ij", x, y)

    assert peak(gradient, (8, 16), (8, 16)) == 1024
    assert peak(gradient, (8, 16), (8, 16), shares={(16, 16): 0.25}) == 256


def test_the_update_of_a_parameter_is_in_place():
    def update(w, m, g):
        m = 0.9 * m + 0.1 * g
        return w - m / (jnp.sqrt(m) + 1), m

    assert peak(update, *[(16, 16)] * 3, shares={(16, 16): 1.0}) == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_a_longer_life_never_takes_less(keep):
    """Every intermediate that is returned as well adds its own size and nothing else."""

    def fn(x, kept):
        out = []
        for one in kept:
            x = jnp.sin(x)
            out += [x] if one else []
        return x, out

    least = peak(lambda x: fn(x, [False] * len(keep)), (KIB,))
    most = peak(lambda x: fn(x, [True] * len(keep)), (KIB,))
    assert least <= peak(lambda x: fn(x, keep), (KIB,)) <= most == 1024 * len(keep)
