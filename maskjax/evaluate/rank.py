"""How many directions features use: a warning of collapse that needs no labels."""

import numpy as np

_MOST_ROWS = 25_600  # as many as RankMe uses


def effective_rank(features: np.ndarray) -> float:
    """exp of the entropy of the singular values, normalised to sum 1; in [1, min(n, D)].

    Garrido, Balestriero, Najman, LeCun, "RankMe", ICML 2023 (features as they are, not centred);
    Roy and Vetterli 2007. Of more than 25,600 rows an evenly spaced part is used. All-zero
    features give 0.

    Args:
        features: float[n, D].
    """
    stride = -(-len(features) // _MOST_ROWS)
    values = np.linalg.svd(np.asarray(features[::stride], np.float64), compute_uv=False)
    if not values.sum() > 0:
        return 0.0
    share = values / values.sum()
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


def feature_spread(features: np.ndarray) -> float:
    """Mean standard deviation per dimension of L2-normalised features, times sqrt(D); in [0, 1].

    0 means that all images have the same feature, 1 that features fill the sphere evenly. The
    collapse alarm of SimSiam (Chen and He, CVPR 2021).

    Args:
        features: float[n, D].
    """
    rows = np.asarray(features, np.float64)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return float(rows.std(0).mean() * np.sqrt(rows.shape[1]))
