"""How often a generator hides each position, over many keys."""

import numpy as np

from maskjax.gallery.entry import Entry
from maskjax.gallery.scene import Scene

BATCH = 256


def frequency(entry: Entry, scene: Scene) -> np.ndarray:
    """float[h, w]: the share of `entry.num_keys` keys that hide a position, at its ratio."""
    import jax
    import jax.numpy as jnp

    fn, names = entry.function(entry.ratio), jax.tree.map(jnp.asarray, scene.names)

    @jax.jit
    def count(keys, names):
        hidden = jax.vmap(lambda key: entry.hidden(fn(key, names)))(keys)
        return hidden.sum(0, dtype=jnp.int32)

    keys = jax.random.split(jax.random.key(2**31), entry.num_keys)
    batches = range(0, entry.num_keys, BATCH)
    return sum(np.asarray(count(keys[i : i + BATCH], names)) for i in batches) / entry.num_keys
