"""How often a generator hides each position, over many keys."""

import numpy as np

from maskjax.gallery.entry import Entry
from maskjax.gallery.scene import Scene

BATCH = 256


def frequency(entry: Entry, scene: Scene) -> np.ndarray:
    """float[h, w]: the share of `entry.num_keys` keys that hide a position, at its ratio."""
    import jax
    import jax.numpy as jnp

    fn = entry.function(entry.ratio, scene)
    count = jax.jit(
        lambda keys: jnp.sum(jax.vmap(lambda key: entry.hidden(fn(key)))(keys), 0, jnp.int32)
    )
    keys = jax.random.split(jax.random.key(2**31), entry.num_keys)
    batches = np.arange(0, entry.num_keys, BATCH)
    return sum(np.asarray(count(keys[i : i + BATCH])) for i in batches) / entry.num_keys
