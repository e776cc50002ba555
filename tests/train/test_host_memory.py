"""Freed memory is used again by the next step and given back after a save."""

import subprocess
import sys


def test_freed_memory_is_used_again():
    """Each of 20 blocks of 64 MiB would fault its pages in anew: at least 32, if they are huge."""
    code = (
        "import numpy, resource\n"
        "from maskjax.train.host_memory import keep_freed_memory\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def count():\n"
        "    start = faults()\n"
        "    for _ in range(20): numpy.ones(2**26, numpy.uint8)\n"
        "    return faults() - start\n"
        "before = count()\n"
        "assert keep_freed_memory()\n"
        "count()\n"
        "print(before, count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before > 20 * 16
    assert after < 20


def test_freed_memory_is_given_back():
    """Blocks too small for a mapping of their own, below one that stays."""
    code = (
        "import numpy\n"
        "from maskjax.train import host_memory\n"
        "assert host_memory.keep_freed_memory()\n"
        "blocks = [numpy.ones(2**16, numpy.uint8) for _ in range(1600)]\n"
        "stays = numpy.ones(2**16, numpy.uint8)\n"
        "full = host_memory.resident()\n"
        "del blocks\n"
        "kept = host_memory.resident()\n"
        "assert host_memory.return_freed_memory()\n"
        "print(full, kept, host_memory.resident())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    full, kept, returned = map(int, done.stdout.split())
    assert kept > full - 10 * 2**20
    assert returned < full - 90 * 2**20
