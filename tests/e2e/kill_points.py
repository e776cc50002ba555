"""`maskjax` with a kill -9 of itself built in: kill_points.py POINT STEP PROCESS ARGUMENTS...

Points, of the step or save of that number, in that process:
  step           when the devices have been given the step
  before-write   when the arrays of a save are about to be written
  after-write    when they have been
  before-commit  when the finished save is about to get its name
  after-commit   when it has it
"""

import os
import signal
import sys
from pathlib import Path

POINTS = ("step", "before-write", "after-write", "before-commit", "after-commit")


def kill():
    """Ends this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_in_step(number: int):
    """After so many steps of this process have been given to the devices."""
    from maskjax.train.compile_together import CompiledTogether

    call, count = CompiledTogether.__call__, 0

    def counted(*args):
        nonlocal count
        result = call(*args)
        count += 1
        if count == number:
            kill()
        return result

    CompiledTogether.__call__ = counted


def kill_in_save(point: str, number: int):
    """Around the writing or the naming of the save of that step."""
    import orbax.checkpoint as ocp
    from orbax.checkpoint._src.path import atomicity

    write = ocp.CheckpointManager.save
    finalize_arrays = ocp.PyTreeCheckpointHandler.finalize
    commit = atomicity.AtomicRenameTemporaryPath.finalize

    def save(self, step, *args, **kwargs):
        if point == "before-write" and step == number:
            kill()
        return write(self, step, *args, **kwargs)

    def finalize(self, directory):
        if point == "after-write" and f"/{number}." in str(directory):
            kill()
        return finalize_arrays(self, directory)

    async def named(self):
        mine = Path(self.get_final()).name == str(number)
        if point == "before-commit" and mine:
            kill()
        result = await commit(self)
        if point == "after-commit" and mine:
            kill()
        return result

    ocp.CheckpointManager.save = save
    ocp.PyTreeCheckpointHandler.finalize = finalize
    atomicity.AtomicRenameTemporaryPath.finalize = named


if __name__ == "__main__":
    from maskjax.cli.main import main

    chosen, step_number, victim, *arguments = sys.argv[1:]
    if f"--process-id={victim}" in arguments:
        if chosen == "step":
            kill_in_step(int(step_number))
        else:
            kill_in_save(chosen, int(step_number))
    sys.exit(main(arguments))
