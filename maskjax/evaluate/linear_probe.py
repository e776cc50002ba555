"""A linear classifier on cached frozen features: the quick, deterministic probe.

Multinomial logistic regression with an L2 penalty by L-BFGS (scikit-learn), as in the probes of
CLIP (Radford et al. 2021) and DINOv2. It is not the probe of the MAE paper, which trains a
BatchNorm and linear layer by LARS on augmented images for 90 epochs; numbers of the two do not
compare.
"""

import contextlib
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from maskjax.errors import UserError

# Weight of |W|^2 / 2 against the mean cross-entropy; strongest first, as each fit starts from the
# one before.
STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
_HELD_OUT = 10  # one of so many training images chooses the strength
_MAX_ITERATIONS = 200
# Below so many numbers per pass, threads cost more than they bring (80 times more where other
# processes use the cores as well).
_ONE_THREAD = 1e9


class Probe(NamedTuple):
    """Result of a linear probe.

    Attributes:
        accuracy: on the test rows, 0..1.
        strength: the chosen one.
        held_out: accuracy on the held-out tenth per strength, in the order of the strengths.
        converged: whether L-BFGS met its tolerance in the last fit.
        components: principal components used; 0 = the features themselves.
    """

    accuracy: float
    strength: float
    held_out: tuple[float, ...]
    converged: bool
    components: int = 0


def linear_probe(
    train: np.ndarray,
    train_label: np.ndarray,
    test: np.ndarray,
    test_label: np.ndarray,
    *,
    strengths: Sequence[float] = STRENGTHS,
    max_dim: int | None = None,
    seed: int = 0,
) -> Probe:
    """Fits on `train`, scores on `test`; the test rows choose nothing.

    Features are standardised with mean and standard deviation of `train`; a constant feature
    becomes 0. The strength with the best accuracy on a held-out tenth of `train` (stratified,
    drawn from `seed`; ties go to the stronger penalty) is used for a fit on all of `train`.

    Args:
        train: float[n, D], n >= 20.
        train_label: int[n], two classes or more.
        test: float[m, D].
        test_label: int[m].
        strengths: penalties to choose from, per example, descending.
        max_dim: wider features are rotated, after standardising, onto so many principal components
            of `train` (not rescaled): for baselines of raw pixels, ten times faster and about the
            same score. None = never.
        seed: of the held-out split.

    Raises:
        UserError: for too few rows or classes.
    """
    if len(train) < 2 * _HELD_OUT or len(np.unique(train_label)) < 2 or not len(test):
        raise UserError(
            f"the linear probe needs at least {2 * _HELD_OUT} training images of two classes and"
            f" one test image; there are {len(train)} and {len(test)}"
        )
    train, test = standardize(train, test)
    components = max_dim if max_dim and train.shape[1] > max_dim else 0
    with _threads(train.size * len(np.unique(train_label))):
        if components:
            train, test = _principal(train, test, components, seed)
        held = held_out_rows(train_label, seed)
        fitted = _path(train[~held], train_label[~held], strengths)
        scores = [float((m.predict(train[held]) == train_label[held]).mean()) for m in fitted]
        best = int(np.argmax(scores))
        # The path again, on everything, down to the chosen strength: its warm starts save time.
        *_, model = _path(train, train_label, strengths[: best + 1])
        accuracy = float((model.predict(test) == test_label).mean())
    converged = bool(model.n_iter_.max() < _MAX_ITERATIONS)
    return Probe(accuracy, float(strengths[best]), tuple(scores), converged, components)


def protocol(probe: Probe) -> str:
    """How a probe score was measured, in words."""
    stopped = "" if probe.converged else f", stopped after {_MAX_ITERATIONS} iterations"
    what = f", first {probe.components} principal components" if probe.components else ""
    return (
        f"standardised features{what}, multinomial logistic regression by L-BFGS, L2 strength"
        f" {probe.strength:g} chosen on a held-out tenth of the training images{stopped}"
    )


def standardize(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both with the mean and standard deviation of `train`; constant features become 0."""
    mean, std = train.mean(0, dtype=np.float64), train.std(0, dtype=np.float64)
    # Rounding leaves a constant column a spread of about 1e-8 of its size, not exactly 0.
    constant = std <= 1e-6 * np.maximum(np.abs(mean), 1e-6)
    scale = np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, std))
    return tuple(np.float32((rows - mean) * scale) for rows in (train, test))


def held_out_rows(label: np.ndarray, seed: int) -> np.ndarray:
    """bool[n]: a tenth of the rows, spread over the classes in proportion to their sizes."""
    noise = np.random.default_rng(seed).random(len(label))
    by_class = np.lexsort((noise, label))
    held = np.zeros(len(label), bool)
    held[by_class[_HELD_OUT // 2 :: _HELD_OUT]] = True
    return held


def _threads(numbers: float) -> contextlib.AbstractContextManager:
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1 if numbers < _ONE_THREAD else None)


def _principal(
    train: np.ndarray, test: np.ndarray, components: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.decomposition import PCA

    components = min(components, len(train))
    pca = PCA(components, svd_solver="randomized", random_state=seed).fit(train)
    return pca.transform(train), pca.transform(test)


def _path(rows: np.ndarray, label: np.ndarray, strengths: Sequence[float]):
    """Yields a fitted classifier per strength; use each before asking for the next."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(solver="lbfgs", max_iter=_MAX_ITERATIONS, warm_start=True)
    for strength in strengths:
        model.set_params(C=1.0 / (strength * len(rows)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(rows, label)
        yield model
