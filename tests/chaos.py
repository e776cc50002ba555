"""A run of several processes, killed again and again at random moments: `make chaos SEED=1 N=20`.

Every time one process, or all, get kill -9 at a moment drawn from the seed: while they start,
restore, train or save. All are started again by the same command. Checked after every kill:
  - the others end by themselves, and none with exit code 0;
  - the next start resumes at the newest finished checkpoint, and no finished one has vanished;
  - no more is lost than the steps since the newest finished checkpoint, two saves at most.
Checked at the end: every logged number of every step, and every bit of the last state, equal those
of a run that nobody disturbed.
"""

import argparse
import dataclasses
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import hosts
import runs

EVERY = 4
OPTIONS = (
    f"checkpoint.every={EVERY}",
    "checkpoint.keep_last=3",
    "model.encoder.depth=1",
    "model.encoder.dim=16",
    "optim.warmup_steps=4",
)


@dataclasses.dataclass
class Kill:
    """One round: what was killed when, and what was left."""

    victims: str
    seconds: float  # after the start
    logged: int  # steps
    saved: int  # newest finished checkpoint
    ended_after: float  # seconds until all had ended
    codes: tuple[int, ...]

    def line(self) -> str:
        return (
            f"kill of {self.victims:<9} after {self.seconds:5.1f} s: step {self.logged:>3} logged,"
            f" {self.saved:>3} saved, all ended {self.ended_after:4.1f} s later, codes {self.codes}"
        )


class Chaos:
    """Rounds of start and kill in one workdir."""

    def __init__(self, folder: Path, rng: random.Random, processes: int, devices: int, steps: int):
        self.folder, self.rng, self.steps = folder, rng, steps
        self.processes, self.devices = processes, devices
        self.workdir, self.newest, self.kills = folder / "run", 0, []
        self.finished, self.gave_up = False, 0

    def start(self, workdir: Path) -> hosts.Hosts:
        options = (*OPTIONS, f"train.steps={self.steps}")
        # Who is killed before it has said that it is there is waited for no longer than this.
        flags = ("--start-timeout=60", "--heartbeat-timeout=20")
        return hosts.start(self.processes, workdir, *options, devices=self.devices, flags=flags)

    def undisturbed(self) -> Path:
        """The reference; how long it took also sets the range of the random moments."""
        workdir, began = self.folder / "whole", time.monotonic()
        with self.start(workdir) as processes:
            assert processes.wait(1800) == (0,) * self.processes, processes.output()
        self.whole_seconds = time.monotonic() - began
        return workdir

    def round(self):
        """Starts, kills at a random moment, checks what is left."""
        with self.start(self.workdir) as processes:
            began = time.monotonic()
            if self.rng.random() < 0.7:  # else somewhere on the way to the first step
                runs.wait_for(
                    lambda: "first step done" in processes.output(0) or processes.any_ended(),
                    seconds=900,
                )
                pause = self.rng.uniform(0, 6)
            else:
                pause = self.rng.uniform(0, 0.5 * self.whole_seconds)
            time.sleep(pause)
            if processes.any_ended():  # without being killed
                self.ended(processes)
                return
            chosen = self.rng.choice([*range(self.processes), None])
            victims = range(self.processes) if chosen is None else [chosen]
            processes.kill(victims)
            killed = time.monotonic()
            codes = processes.wait(300)
            ended = time.monotonic() - killed
            self.check_start(processes)
        name = "all" if chosen is None else f"process {chosen}"
        self.kills.append(self.check(name, killed - began, ended, codes))
        print(self.kills[-1].line(), flush=True)

    def ended(self, processes: hosts.Hosts):
        """It came to its end; or it gave up, as gloo does after 30 s on a busy machine."""
        codes = processes.wait(300)
        self.check_start(processes)
        self.finished = codes == (0,) * self.processes
        if not self.finished:
            self.gave_up += 1
            assert not {0, 1, 2} & set(codes), f"{codes}:\n{processes.output()}"
            assert self.gave_up <= 10, f"cannot run here: {codes}:\n{processes.output()}"
            self.newest = self.saved()
            print(f"ended by itself with {codes}, started again", flush=True)

    def logged(self) -> int:
        file = self.workdir / "metrics.jsonl"
        return len(runs.lines(self.workdir)) if file.exists() else 0

    def saved(self) -> int:
        folder = self.workdir / "checkpoints"
        return max(runs.steps_saved(self.workdir), default=0) if folder.is_dir() else 0

    def check_start(self, processes: hosts.Hosts):
        """It went on where the newest finished checkpoint was."""
        resumed = re.findall(r"resuming at step (\d+)", processes.output())
        if "parameters," in processes.output():  # it got as far as that
            at = int(resumed[0]) if resumed else 0
            assert at == self.newest, f"resumed at {at}, newest was {self.newest}"

    def check(self, name: str, seconds: float, ended: float, codes: tuple[int, ...]) -> Kill:
        assert 0 not in codes, f"ended well although others were killed: {codes}"
        saved, logged = self.saved(), self.logged()
        assert saved >= self.newest, f"checkpoint {self.newest} has vanished, newest is {saved}"
        assert logged - saved <= 2 * EVERY, f"step {logged} was logged, {saved} is the newest saved"
        self.newest = saved
        return Kill(name, seconds, logged, saved, ended, codes)

    def end(self, whole: Path):
        """Lets it come to its end and compares."""
        while not self.finished:
            with self.start(self.workdir) as processes:
                processes.wait(1800)
                self.ended(processes)
        assert list(runs.losses(self.workdir)) == list(range(1, self.steps + 1))
        assert runs.exact(self.workdir) == runs.exact(whole), "a logged number differs"
        (found, position), (expected, end) = runs.saved_state(self.workdir), runs.saved_state(whole)
        assert position == end
        runs.assert_same_bits(found, expected)
        print(f"the run of {self.steps} steps equals the undisturbed one bit for bit", flush=True)
        shutil.rmtree(self.workdir)
        self.newest, self.finished = 0, False


def main() -> int:
    """Runs it; exit code 1 with the first check that fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--devices", type=int, default=1, help="emulated, of each process")
    parser.add_argument("--steps", type=int, default=150)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        # So that a start costs little: all that is compiled is kept, for this command alone.
        os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{folder}/compiled"
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        chaos = Chaos(Path(folder), rng, args.processes, args.devices, args.steps)
        whole, began = chaos.undisturbed(), time.monotonic()
        print(f"undisturbed: {args.steps} steps in {chaos.whole_seconds:.0f} s", flush=True)
        while len(chaos.kills) < args.kills:
            chaos.round()
            if chaos.finished:
                chaos.end(whole)
        chaos.end(whole)
    kills = chaos.kills
    lost = [kill.logged - kill.saved for kill in kills]
    print(
        f"{len(kills)} kills (seed {args.seed}, {args.processes} processes), every restart exact;"
        f" steps lost a kill: {sum(lost) / len(lost):.1f} on average, {max(lost)} at most"
        f" (a save every {EVERY}); the others ended within"
        f" {max(kill.ended_after for kill in kills):.0f} s; {chaos.gave_up} starts gave up by"
        f" themselves; {time.monotonic() - began:.0f} s in all"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
