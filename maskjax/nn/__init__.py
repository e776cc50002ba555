"""Building blocks in flax.linen: attention, block stack, position tables, norms, ViT."""
