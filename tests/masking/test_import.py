"""`import maskjax.masking` loads jax, numpy, chex, einops and nothing of ours beside it."""

import subprocess
import sys

HEAVY = (
    "flax",
    "grain",
    "matplotlib",
    "ml_collections",
    "optax",
    "orbax",
    "sklearn",
    "tensorflow",
    "tensorflow_datasets",
    "torch",
)
PROGRAM = f"""
import sys
from maskjax import masking
masking.random, masking.Draws, masking.tokens.gather
print(sorted(set({HEAVY!r}) & set(sys.modules)))
print(sorted(m for m in sys.modules if m.startswith("maskjax.") and "masking" not in m))
"""


def test_a_fresh_process_loads_nothing_heavy():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["[]", "[]"]
