"""Do steps of a run again from a checkpoint, and say whether the losses are the same, bit for bit.

  maskjax replay --workdir=runs/l16 --steps=20

Compares with metrics.jsonl, and with the checkpoint of the last step if there is one. Equal bits
need the mesh and the number of processes of the run; elsewhere losses agree to rounding. Nothing is
written. Exit code 1 if anything differs.
"""

import argparse

from maskjax.cli.run_arguments import add_process_arguments, start_processes


def add_arguments(parser: argparse.ArgumentParser):
    """Arguments of `maskjax replay`."""
    parser.add_argument("--workdir", required=True, metavar="DIR", help="folder of a training run")
    parser.add_argument("--steps", type=int, default=10, metavar="N", help="how many; default 10")
    parser.add_argument("--step", type=int, metavar="S", help="checkpoint to begin at")
    add_process_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Replays and prints one line a step."""
    start_processes(args)
    from maskjax.replay import replay
    from maskjax.train import processes, runtime

    runtime.enable_compile_cache()
    with processes.together():
        found = replay(args.workdir, args.steps, args.step)
    for step, (logged, again) in found.losses.items():
        verdict = "not logged" if logged is None else "same" if logged == again else "DIFFERENT"
        then = "" if logged is None else f"{logged!r} then, "
        processes.say(f"step {step}: {then}{again!r} now: {verdict}")
    if found.leaves is not None:
        text = f"differs in {len(found.leaves)} leaves: {', '.join(found.leaves[:5])}"
        last = max(found.losses)
        processes.say(f"state after step {last}: {text if found.leaves else 'same, bit for bit'}")
    same = "the same, bit for bit" if found.same else "NOT the same"
    processes.say(f"{found.compared} losses from step {found.start} compared: {same}")
    return 0 if found.same else 1
