"""Building blocks in flax.linen: attention, block stack, patch embedding, position tables, norms."""
