"""The linear SVM on frozen features by which point-cloud methods are compared."""

import warnings

import numpy as np

from maskjax.errors import UserError

C = 0.01


def linear_svm(
    train: np.ndarray,
    train_label: np.ndarray,
    test: np.ndarray,
    test_label: np.ndarray,
    *,
    c: float = C,
) -> float:
    """Accuracy on `test`, 0..1, of scikit-learn's LinearSVC fitted to `train`.

    Features as they are, not standardised (I2P-MAE, Zhang et al. 2023, code).

    Args:
        train: float[n, D].
        train_label: int[n], two classes or more.
        test: float[m, D].
        test_label: int[m].
        c: weight of the errors against the squared norm of the weights.

    Raises:
        UserError: for too few rows or classes.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    if len(np.unique(train_label)) < 2 or not len(test):
        raise UserError(
            "the linear SVM needs training examples of two classes and one test example; there are"
            f" {len(np.unique(train_label))} classes and {len(test)} test examples"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LinearSVC(C=c, random_state=0).fit(np.float64(train), train_label)
    return float((model.predict(np.float64(test)) == test_label).mean())


def protocol(c: float = C) -> str:
    """How the score was measured, in words."""
    return f"linear SVM (LinearSVC, C = {c:g}) on features as they are"
