"""What torch's CPU generator draws, for reference code that recorded its seed and not its draws.

`torch.manual_seed(s)` starts the Mersenne Twister that `numpy.random.RandomState(s)` starts, so its
32-bit words are at hand without torch.
"""

import numpy as np


class TorchRandom:
    """Replays `torch.manual_seed(seed)` and the draws that follow, each of one number."""

    def __init__(self, seed: int):
        self._words = np.random.RandomState(seed)

    def randint(self, high: int) -> int:
        """`torch.randint(0, high, (1,))`, for less than 2**28 values."""
        return self._word() % high

    def rand(self) -> float:
        """`torch.rand(1)` in float32."""
        return (self._word() & (2**24 - 1)) / 2**24

    def _word(self) -> int:
        return int(self._words.randint(0, 2**32, dtype=np.uint32))
