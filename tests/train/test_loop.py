"""The training loop: its order of events, its stops, and its guard against hidden transfers."""

import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskjax.errors import UserError
from maskjax.train.loop import Every, Hooks, NonFiniteLossError, run_loop


@pytest.mark.parametrize(
    ("steps", "at_end", "due"),
    [
        (3, True, [3, 6, 7]),
        (3, False, [3, 6]),
        (0, True, [7]),
        (0, False, []),
        (1, False, [1, 2, 3, 4, 5, 6, 7]),
        (100, True, [7]),
    ],
)
def test_every(steps, at_end, due):
    every = Every(print, steps, at_end)
    assert [done for done in range(1, 8) if every.due(done, last=done == 7)] == due


class Recorder:
    """A step, batches and hooks that note what happens; the loss of step n is 1 / n."""

    def __init__(self, start=0, stop_after=None, loss=lambda done: 1 / done):
        self.events, self.start, self.stop_after, self.loss = [], start, stop_after, loss
        self.state = types.SimpleNamespace(step=jnp.int32(start))

    def batches(self):
        for number in itertools.count(self.start):
            self.events.append(("batch", number))
            yield number

    def step(self, state, batch, static):
        done = batch + 1
        self.events.append(("step", done, static))
        with jax.transfer_guard("allow"):
            metrics = {"loss": jnp.float32(self.loss(done)), "grad_norm": jnp.float32(1)}
            return types.SimpleNamespace(step=state.step + 1), metrics

    def stop(self):
        done = self.events[-1][1]
        self.events.append(("stop?", done))
        return done == self.stop_after

    def hooks(self, log=0, evaluate=0, save=0):
        def note(name):
            def hook(done, *about):
                self.events.append((name, done))
                for metrics in (x for x in about if isinstance(x, dict)):
                    assert metrics == {"loss": np.float32(self.loss(done)), "grad_norm": 1}
                    assert all(type(value) is float for value in metrics.values())
                if name in ("evaluate", "save"):
                    assert int(about[0].step) == done

            return hook

        return Hooks(
            log=Every(note("log"), log),
            evaluate=Every(note("evaluate"), evaluate, at_end=False),
            save=Every(note("save"), save),
            stop=self.stop,
        )

    def run(self, total, **hooks):
        state = run_loop(
            self.state,
            self.step,
            self.batches(),
            self.hooks(**hooks),
            total_steps=total,
            static=lambda done: f"static {done}",
        )
        return int(state.step)

    def steps_of(self, name):
        return [event[1] for event in self.events if event[0] == name]


def test_one_turn_is_batch_step_stop_log_evaluate_save():
    recorder = Recorder()
    assert recorder.run(2, log=1, evaluate=1, save=1) == 2
    turn = [
        ("batch", 0),
        ("step", 1, "static 0"),
        ("stop?", 1),
        ("log", 1),
        ("evaluate", 1),
        ("save", 1),
    ]
    assert recorder.events[:6] == turn
    assert [event[0] for event in recorder.events[6:]] == [event[0] for event in turn]


def test_logs_at_the_first_step_and_every_few_and_the_last():
    recorder = Recorder()
    recorder.run(11, log=4, save=5, evaluate=3)
    assert recorder.steps_of("log") == [1, 4, 8, 11]
    assert recorder.steps_of("save") == [5, 10, 11]
    assert recorder.steps_of("evaluate") == [3, 6, 9]


def test_a_resumed_loop_counts_on():
    recorder = Recorder(start=6)
    assert recorder.run(11, log=4, save=5) == 11
    assert recorder.steps_of("step") == [7, 8, 9, 10, 11]
    assert recorder.events[1] == ("step", 7, "static 6")
    assert recorder.steps_of("log") == [7, 8, 11]
    assert recorder.steps_of("save") == [10, 11]


def test_nothing_to_do():
    recorder = Recorder(start=5)
    assert recorder.run(5, log=1, save=1) == 5
    assert recorder.events == []


def test_a_stop_finishes_the_step_logs_saves_and_leaves():
    recorder = Recorder(stop_after=3)
    assert recorder.run(10, log=4, evaluate=4, save=4) == 3
    assert recorder.steps_of("batch") == [0, 1, 2]
    assert recorder.steps_of("log") == [1, 3]
    assert recorder.steps_of("save") == [3]
    assert recorder.steps_of("evaluate") == []
    assert recorder.events[-1] == ("save", 3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(("log", "save"), [(2, 0), (100, 2)])
def test_a_loss_that_is_not_finite_is_neither_logged_nor_saved(value, log, save):
    """Found at a log or at a save, whichever comes first."""
    recorder = Recorder(loss=lambda done: value if done >= 6 else 1.0)
    with pytest.raises(
        NonFiniteLossError, match=r"step 6: not finite: loss\. .* --workdir"
    ) as info:
        recorder.run(10, log=log, save=save)
    assert isinstance(info.value, UserError)
    assert 6 not in recorder.steps_of("log") + recorder.steps_of("save")
    assert recorder.steps_of("save") == ([2, 4] if save else [])


def test_an_implicit_transfer_in_a_step_is_an_error():
    """A step that is fed from the host without saying so would be slow without anyone noticing."""
    jitted = jax.jit(lambda step, x: (step + 1, x.sum()))

    def step(state, batch, static):
        done, loss = jitted(state.step, batch)
        return types.SimpleNamespace(step=done), {"loss": loss}

    state = types.SimpleNamespace(step=jnp.int32(0))
    hooks = Recorder().hooks()
    hooks = Hooks(hooks.log, hooks.evaluate, hooks.save)
    with pytest.raises(Exception, match="transfer"):
        run_loop(state, step, iter([np.ones(3, np.float32)]), hooks, total_steps=1)


def test_the_guard_ends_with_the_step():
    """Hooks may move arrays: scores and pictures are made on the host."""

    def evaluate(done, state):
        assert float(jnp.sum(np.ones(3))) == 3

    recorder = Recorder()
    hooks = recorder.hooks()
    hooks = Hooks(hooks.log, Every(evaluate, 1), hooks.save)
    run_loop(recorder.state, recorder.step, recorder.batches(), hooks, total_steps=2)
