"""Host-side randomness: every number is a function of (seed, stream, position, draw)."""

import zlib

import numpy as np

from maskjax.errors import UserError

_WORD = 2**64 - 1


def host_rng(seed: int, stream: str, position: int, draw: int = 0) -> np.random.Generator:
    """A generator that depends on its arguments only, never on what was drawn before.

    The Philox block cipher (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) is
    keyed with (seed, crc32(stream)) and its 256-bit counter starts at (0, 0, draw, position),
    lowest word first, so two different (position, draw) pairs are 2**128 blocks apart and never
    overlap. Any worker on any host that asks for the same four values gets the same numbers.

    Args:
        seed: 0 <= seed < 2**64.
        stream: a name such as "augment"; streams with different names are independent.
        position: position of the example in the global training stream, 0 <= position < 2**64.
        draw: which repeated draw for this example (several views of one image), 0 <= draw < 2**64.

    Raises:
        UserError: a number is outside its range.
    """
    if min(seed, position, draw) < 0 or max(seed, position, draw) > _WORD:
        raise UserError(
            f"seed, position and draw must be in 0 .. 2**64 - 1, found {seed}, {position}, {draw}"
        )
    key = np.array([seed, zlib.crc32(stream.encode())], np.uint64)
    counter = np.array([0, 0, draw, position], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def position_words(position: int | np.ndarray) -> np.ndarray:
    """Positions [...] in 0 .. 2**64 - 1 as uint32[..., 2], high word and low word.

    JAX has no 64-bit integers by default; the two words are what masks are keyed with on the
    device.
    """
    if isinstance(position, int):  # One at a time, for every training example: without ufuncs.
        return np.array([position >> 32, position & 0xFFFFFFFF], np.uint32)
    words = np.asarray(position, np.uint64)
    return np.stack([words >> np.uint64(32), words & np.uint64(0xFFFFFFFF)], -1).astype(np.uint32)
