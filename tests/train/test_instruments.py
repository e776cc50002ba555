"""The alarm for compilation and the profile, on a step of one line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskjax.train.instruments import CompileAlarm, Profiled


def toy():
    return jax.jit(
        lambda state, batch, static: (state + batch.sum(), {"loss": state}), static_argnums=2
    )


@pytest.fixture
def alarm():
    told = []
    found = CompileAlarm(toy(), lambda text, *values: told.append(text % values))
    found.told = told
    return found


def test_the_first_compilation_is_none_of_its_business(alarm):
    state = jnp.float32(0)
    for number in range(3):
        state, _ = alarm(state, jnp.ones(4) * number)
    assert (alarm.alarms, alarm.told) == (0, [])
    assert alarm.seconds > 0
    assert state == 12


def test_another_shape_is_told_each_time(alarm):
    state = jnp.float32(0)
    for size in (4, 4, 5, 4, 6):
        state, _ = alarm(state, np.ones(size, np.float32))
    assert alarm.alarms == 2
    assert "compiled again" in alarm.told[0]
    assert "alarm 2 of this run" in alarm.told[1]


def test_a_new_static_value_is_meant_to_compile(alarm):
    state = jnp.float32(0)
    for static in (0, 1, 0, 2, 2, 1):
        state, _ = alarm(state, jnp.ones(4), static)
    assert alarm.alarms == 0


def test_other_compilations_do_not_count(alarm):
    alarm(jnp.float32(0), jnp.ones(4))
    jax.jit(lambda x: x * 3 + 1)(jnp.ones(7))
    alarm(jnp.float32(0), jnp.ones(4))
    assert alarm.alarms == 0


def test_a_window_is_recorded(tmp_path):
    step = Profiled(toy(), tmp_path, first=1, count=2)
    state = jnp.float32(0)
    for _ in range(5):
        state, _ = step(state, jnp.ones(4))
    step.close()
    assert state == 20
    (trace,) = tmp_path.rglob("*.xplane.pb")
    assert b"train" in trace.read_bytes()


def test_a_window_past_the_end_is_closed(tmp_path):
    step = Profiled(toy(), tmp_path, first=1, count=100)
    step(jnp.float32(0), jnp.ones(4))
    step(jnp.float32(0), jnp.ones(4))
    step.close()
    assert list(tmp_path.rglob("*.xplane.pb"))
    step.close()  # twice is fine
    jax.profiler.start_trace(str(tmp_path / "again"))  # nothing is left going on
    jax.profiler.stop_trace()
