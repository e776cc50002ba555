"""Masks over the tokens of several modalities at once (MultiMAE, Bachmann et al. 2022)."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from maskjax.masking.noise import noise_of
from maskjax.masking.sampling import from_scores
from maskjax.masking.split import TokenSplit

# Tries of the rejection sampler of a gamma number. Each is accepted with more than 95 %, so all of
# them fail once in 10**20 numbers; the loop of jax.random.gamma has no bound and is not used, since
# batched it runs until the last example is done, and asks all devices whether it is.
TRIES = 16


class ModalityNoise(NamedTuple):
    """What `dirichlet` consumes; modalities one after the other.

    Attributes:
        shares: float[T], a Dirichlet sample: how much of the budget each modality gets.
        keep: float[N], uniform: which tokens of a modality are kept.
        shuffle: float[N], uniform: which tokens even out the rounding, and the order.
    """

    shares: Array
    keep: Array
    shuffle: Array


def dirichlet(
    noise_or_key: ModalityNoise | Array,
    num_tokens: Sequence[int],
    *,
    num_visible: int,
    alpha: float | Sequence[float] = 1.0,
    subsets: bool = False,
) -> TokenSplit:
    """Visible tokens over all modalities, shared out by a Dirichlet sample for each example.

    Modality t keeps round(share_t * K) of its tokens (half to even), at random; then all kept
    tokens in random order are followed by all others in random order, and the first K are visible.
    So too many by rounding are dropped, and what is missing is filled up at random.

    Args:
        noise_or_key: one typed PRNG key, or the noise. A key draws it anew; alpha is used then.
        num_tokens: tokens of each modality, T numbers of sum N.
        num_visible: K in 0..N, static.
        alpha: concentration, one or T numbers > 0. Small: nearly one modality; large: equal shares.
        subsets: whether to choose a non-empty subset of the modalities first, uniformly, and to
            share out among these.

    Returns:
        TokenSplit with ids int32[N] (modality t starts at sum(num_tokens[:t])) and cuts (K,).

    Raises:
        ValueError: if K is outside 0..N, a modality has no token, or an alpha is not positive.
    """
    counts = tuple(num_tokens)
    alphas = np.broadcast_to(np.asarray(alpha, np.float32), (len(counts),))
    if not counts or min(counts) < 1:
        raise ValueError(f"num_tokens must name at least one token per modality; got {counts}")
    if not (alphas > 0).all():
        raise ValueError(f"alpha must be positive; got {alpha}")
    noise = noise_or_key
    if not isinstance(noise, ModalityNoise):
        noise = _draw(noise, sum(counts), jnp.asarray(alphas), subsets)
    kept = _tentative(noise, counts, num_visible)
    return from_scores(~kept + noise.shuffle, num_visible=num_visible)


def dirichlet_shares(key: Array, alpha: Array) -> Array:
    """float32[T], positive, of sum 1: one sample of Dirichlet(alpha float[T]); in bounded time."""
    logs = _log_gamma_sample(key, jnp.asarray(alpha, jnp.float32))
    return jax.nn.softmax(logs)


def modality_of(num_tokens: Sequence[int]) -> np.ndarray:
    """owner int32[N]: the modality of each token, a constant."""
    return np.repeat(np.arange(len(num_tokens), dtype=np.int32), num_tokens)


def by_modality(x: Array, num_tokens: Sequence[int], axis: int = -1) -> list[Array]:
    """Cuts an array over all tokens into one for each modality; slices, free.

    Raises:
        ValueError: if the axis does not have sum(num_tokens) entries.
    """
    if x.shape[axis] != sum(num_tokens):
        raise ValueError(f"axis {axis} has {x.shape[axis]} entries, the modalities {num_tokens}")
    return jnp.split(x, np.cumsum(num_tokens)[:-1], axis)


def draw_shares(key: Array, alpha: Array, *, subsets: bool = False) -> Array:
    """float32[T]: `dirichlet_shares`, with `subsets` among a non-empty subset drawn uniformly."""
    choice, shares = jax.random.split(key)
    if subsets:
        bits = jax.random.randint(choice, (), 1, 2 ** len(alpha)) >> jnp.arange(len(alpha))
        alpha = alpha * (bits & 1) + 1e-5
    return dirichlet_shares(shares, alpha)


def _draw(key: Array, num_tokens: int, alpha: Array, subsets: bool) -> ModalityNoise:
    shares, keep, shuffle = jax.random.split(key, 3)
    uniforms = (jax.random.uniform(k, (num_tokens,)) for k in (keep, shuffle))
    return ModalityNoise(draw_shares(shares, alpha, subsets=subsets), *uniforms)


def _tentative(noise: ModalityNoise, counts: tuple[int, ...], num_visible: int) -> Array:
    """bool[N]: True for the tokens that the modalities' shares pay for."""
    shares = noise_of(noise.shares, (len(counts),))
    numbers = jnp.round(shares * num_visible)
    keep = by_modality(noise_of(noise.keep, (sum(counts),)), counts)
    # As in the official code: entry i of the sorting permutation decides about token i.
    kept = [jnp.argsort(u, -1) < numbers[..., t, None] for t, u in enumerate(keep)]
    return jnp.concatenate(kept, -1)


def _log_gamma_sample(key: Array, alpha: Array) -> Array:
    """Logarithms of Gamma(alpha, 1) samples, shape of alpha (Marsaglia and Tsang 2000).

    Gamma(a) is Gamma(a + 1) * U**(1/a); in logarithms that cannot underflow for small a.
    """
    normal, uniform, power = jax.random.split(key, 3)
    d = alpha + 1 - 1 / 3
    x = jax.random.normal(normal, (TRIES, *alpha.shape))
    cube = (1 + x / jnp.sqrt(9 * d)) ** 3
    log_cube = jnp.log(jnp.maximum(cube, jnp.finfo(jnp.float32).tiny))
    log_u = -jax.random.exponential(uniform, x.shape)
    accepted = (cube > 0) & (log_u < 0.5 * x**2 + d * (1 - cube + log_cube))
    first = jnp.argmax(accepted, 0)
    chosen = jnp.take_along_axis(log_cube, first[None], 0)[0]
    return jnp.log(d) + chosen - jax.random.exponential(power, alpha.shape) / alpha
