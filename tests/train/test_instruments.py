"""The alarm for compilation and the profile, on a step of one line."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskjax.train.instruments import CompileAlarm


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


# In a process of its own: the profiler has crashed in one that had compiled and run much before.
SCRIPT = """
import sys
import jax, jax.numpy as jnp
from maskjax.train.instruments import Profiled

toy = jax.jit(
    lambda state, batch, static: (state + batch.sum(), {"loss": state}), static_argnums=2
)
whole = Profiled(toy, sys.argv[1], first=1, count=2)
state = jnp.float32(0)
for _ in range(5):
    state, _ = whole(state, jnp.ones(4))
whole.close()
assert state == 20

cut = Profiled(toy, sys.argv[2], first=1, count=100)  # longer than the run
cut(jnp.float32(0), jnp.ones(4))
cut(jnp.float32(0), jnp.ones(4))
cut.close()
cut.close()  # twice is fine
jax.profiler.start_trace(sys.argv[3])  # nothing is left going on
jax.profiler.stop_trace()
"""


def test_a_window_is_recorded_and_one_past_the_end_is_closed(tmp_path):
    folders = [tmp_path / name for name in ("whole", "cut", "again")]
    subprocess.run([sys.executable, "-c", SCRIPT, *map(str, folders)], check=True, timeout=300)
    (trace,) = folders[0].rglob("*.xplane.pb")
    assert b"train" in trace.read_bytes()
    assert list(folders[1].rglob("*.xplane.pb"))
