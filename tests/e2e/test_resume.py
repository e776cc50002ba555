"""A run that was stopped and started again is the run that was not."""

import signal

import pytest
import runs
from runs import STEPS


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole") / "run"
    assert runs.train(workdir) == 0
    return workdir


@pytest.mark.parametrize(
    ("number", "after", "code"), [(signal.SIGTERM, 5, 143), (signal.SIGINT, 12, 130)]
)
def test_stopped_and_resumed_equals_uninterrupted_bit_for_bit(
    whole, tmp_path, capsys, number, after, code
):
    with runs.signal_when(lambda: len(runs.lines(tmp_path)) >= after, number):
        assert runs.train(tmp_path) == code
    (stopped,) = runs.steps_saved(tmp_path)
    assert after <= stopped < STEPS
    assert f"stopped: saved step {stopped}; the same command goes on" in capsys.readouterr().out
    assert list(runs.losses(tmp_path)) == list(range(1, stopped + 1))
    before = runs.exact(tmp_path)

    assert runs.train(tmp_path) == 0
    assert f"resuming at step {stopped} (example {stopped * 64:,})" in capsys.readouterr().out
    assert list(runs.losses(tmp_path)) == list(range(1, STEPS + 1))
    assert runs.exact(tmp_path) == runs.exact(whole)
    assert before.items() <= runs.exact(tmp_path).items()
    (found, position), (expected, end) = runs.saved_state(tmp_path), runs.saved_state(whole)
    assert position == end == STEPS * 64
    assert any("ema" in name for name in found)
    assert any("/mu/" in name for name in found)
    runs.assert_same_bits(found, expected)


def test_a_finished_run_is_left_as_it_is(whole, capsys):
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    assert runs.train(whole) == 0
    assert f"already trained to step {STEPS}, nothing to do" in capsys.readouterr().out
    for path, content in before.items():
        if path.name != "run.json":  # says when it was last started
            assert path.read_bytes() == content, path


def test_a_stop_in_the_last_step_is_a_finished_run(whole, tmp_path):
    """The signal may come at any time; what is saved is whole either way."""
    with runs.signal_when(lambda: len(runs.lines(tmp_path)) >= STEPS, signal.SIGTERM):
        assert runs.train(tmp_path) in (0, 143)
    assert runs.steps_saved(tmp_path) == [STEPS]
    runs.assert_same_bits(runs.saved_state(tmp_path)[0], runs.saved_state(whole)[0])
