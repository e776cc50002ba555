"""LIME (Ribeiro et al. 2016): which segments of an image speak for a class, by a linear model.

The protocol is that of Balasubramanian and Feizi 2023 (their notebooks): 512 perturbations, each
segment on with probability 0.5 and the first row all on; kernel exp(-d^2 / 0.25^2) of the cosine
distance to the whole image; ridge regression with alpha = 1 and an intercept.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from maskjax.explain.segments import visible_pixels

Classifier = Callable[[np.ndarray, np.ndarray], np.ndarray]
KERNEL_WIDTH, ALPHA = 0.25, 1.0


def perturbations(num: int, num_segments: int, seed: int = 0) -> np.ndarray:
    """bool[num, S]: which segments are on; the same for every way of hiding, if the seed is."""
    on = np.random.default_rng(seed).random((num, num_segments)) < 0.5
    on[0] = True
    return on


def sample_weights(on: Array) -> Array:
    """float32[n]: sqrt(exp(-d^2 / 0.25^2)), d the cosine distance of a row to all ones.

    A row with nothing on has distance 1.
    """
    share = jnp.asarray(on, jnp.float32).mean(-1)
    distance = 1 - jnp.sqrt(share)
    return jnp.sqrt(jnp.exp(-jnp.square(distance) / KERNEL_WIDTH**2))


def ridge(on: Array, scores: Array, weights: Array, alpha: float = ALPHA) -> Array:
    """Weighted ridge regression with an intercept, which is not penalised.

    Args:
        on: bool or float[n, S].
        scores: float[n].
        weights: float[n], positive.
        alpha: of the penalty.

    Returns:
        float32[S], the coefficients.
    """
    x, y = jnp.asarray(on, jnp.float32), jnp.asarray(scores, jnp.float32)
    share = weights / weights.sum()
    x, y = x - share @ x, y - share @ y
    gram = (x * weights[:, None]).T @ x + alpha * jnp.eye(x.shape[1])
    factor = jax.scipy.linalg.cho_factor(gram)
    return jax.scipy.linalg.cho_solve(factor, (x * weights[:, None]).T @ y)


@jax.jit
def fit(on: Array, scores: Array) -> Array:
    """Coefficients float32[m, S] for m columns of scores float[m, n] of the same perturbations."""
    weights = sample_weights(on)
    return jax.vmap(lambda column: ridge(on, column, weights))(jnp.asarray(scores))


def class_scores(
    classify: Classifier, image: np.ndarray, valid: np.ndarray, batch: int = 64
) -> np.ndarray:
    """Probabilities float32[n, K] of one image under n masks valid bool[n, H, W].

    Every call gets `batch` rows, so that it is compiled once.
    """
    found = []
    for start in range(0, len(valid), batch):
        rows = valid[start : start + batch]
        padded = np.concatenate([rows, np.ones((batch - len(rows), *rows.shape[1:]), bool)])
        images = np.broadcast_to(image, (batch, *image.shape))
        found.append(np.asarray(classify(images, padded))[: len(rows)])
    return np.concatenate(found)


def explain(
    classifiers: dict[str, Classifier],
    image: np.ndarray,
    segments: np.ndarray,
    label: int,
    *,
    num: int = 512,
    seed: int = 0,
    batch: int = 64,
) -> dict[str, np.ndarray]:
    """Coefficients float32[S] of the segments for a class, by each classifier.

    Args:
        classifiers: by name; all get the same perturbations.
        image: uint8[H, W, C].
        segments: int[H, W].
        label: the class whose probability is explained.
        num, seed: of the perturbations.
        batch: masks in one call.
    """
    on = perturbations(num, int(segments.max()) + 1, seed)
    valid = visible_pixels(on, segments)
    scores = [class_scores(fn, image, valid, batch)[:, label] for fn in classifiers.values()]
    coefficients = np.asarray(fit(on, np.stack(scores)))
    return dict(zip(classifiers, coefficients, strict=True))
