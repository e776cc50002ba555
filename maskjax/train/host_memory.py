"""Memory of the host process: kept between steps, given back after a save, reported."""

import ctypes
import os
import sys
from pathlib import Path

import jax

# Parameters of glibc's mallopt(3), by the numbers of malloc.h, and what they are set to.
_KEEP = {
    -4: 0,  # M_MMAP_MAX: no block is a mapping of its own, which would be unmapped when freed
    -1: 2**31 - 1,  # M_TRIM_THRESHOLD: what is free at the top of the heap stays there
    -2: 2**28,  # M_TOP_PAD: the heap grows by 256 MiB at a time
}


def keep_freed_memory() -> bool:
    """On CPU: memory that a step has freed is kept for the next step, not given back.

    XLA:CPU allocates the temporaries of a step anew each time, in one block that is so large that
    glibc maps and unmaps it: the kernel then clears every page again at every step. Kept, the demo
    step takes half the CPU time, ViT-S (16 images, bfloat16) 8 % less. The process holds on to
    the most that it needed since `return_freed_memory`. Nothing happens on accelerators or without
    glibc.

    Returns:
        Whether it was set.
    """
    mallopt = _glibc("mallopt")
    if jax.default_backend() != "cpu" or mallopt is None:
        return False
    return all(mallopt(parameter, value) == 1 for parameter, value in _KEEP.items())


def return_freed_memory() -> bool:
    """Gives the system what is free in all heaps: after a save, which needs a copy of the state.

    Each heap of glibc (one or more for a thread) otherwise keeps as many pages as it had when it
    was fullest, and blocks of many sizes make it fuller with every save. The next step faults its
    own pages in again, once.

    Returns:
        Whether anything was given back; False without glibc.
    """
    trim = _glibc("malloc_trim")
    return trim is not None and trim(0) == 1


def resident() -> int | None:
    """Bytes of memory that this process occupies; None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _glibc(function: str):
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), function, None)  # None: another C library
