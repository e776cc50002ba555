"""FLOPs by formula: matrix multiplications only, two operations per multiply-add, one forward pass.

A training step is three forward passes: the backward pass has two products for each one of the
forward pass. Norms, softmax, activations and the optimizer are left out: under 2 % at the sizes of
the MAE paper.
"""

from maskjax.nn.vit import Size


def linear(tokens: int, inputs: int, outputs: int) -> int:
    """A dense layer over `tokens` tokens."""
    return 2 * tokens * inputs * outputs


def conv(positions: int, window: int, inputs: int, outputs: int) -> int:
    """A convolution with `window` cells at `positions`; `inputs` is those of one channel group."""
    return linear(positions, window * inputs, outputs)


def transformer(tokens: int, size: Size) -> int:
    """All blocks of a transformer for one sequence of `tokens` tokens, cls included."""
    projections = linear(tokens, size.dim, 4 * size.dim)  # query, key, value, out
    attention = 2 * (2 * tokens * tokens * size.dim)  # scores, weighted values
    mlp = 2 * linear(tokens, size.dim, size.mlp_hidden)
    return size.depth * (projections + attention + mlp)


def cross_transformer(tokens: int, keys: int, size: Size) -> int:
    """All blocks of a transformer whose `tokens` tokens look at `keys` tokens of the same width."""
    projections = linear(tokens + keys, size.dim, 2 * size.dim)  # query, out; key, value
    attention = 2 * (2 * tokens * keys * size.dim)
    mlp = 2 * linear(tokens, size.dim, size.mlp_hidden)
    return size.depth * (projections + attention + mlp)
