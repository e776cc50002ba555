"""k nearest neighbours on frozen features, by the protocol of DINO.

Wu, Xiong, Yu, Lin, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination",
CVPR 2018 (the weighted vote); Caron et al., "Emerging Properties in Self-Supervised Vision
Transformers", ICCV 2021 (k = 20, T = 0.07). Features of masked autoencoders do poorly here by
nature: they share a large common direction. The centred variant takes the training mean out first.
"""

import functools
from collections.abc import Sequence

import numpy as np

from maskjax.errors import UserError

KS = (10, 20, 100, 200)
TEMPERATURE = 0.07
_CHUNK = 256


def knn_accuracy(
    train: np.ndarray,
    train_label: np.ndarray,
    test: np.ndarray,
    test_label: np.ndarray,
    *,
    ks: Sequence[int] = KS,
    temperature: float = TEMPERATURE,
    centre: bool = False,
) -> dict[str, float]:
    """Accuracy of the weighted vote for several k.

    Features are L2-normalised; each of the k training rows most similar to a test row votes for its
    class with exp(cosine similarity / T). A k larger than the number of training rows is clipped to
    it (`protocol` says so).

    Args:
        train: float[n, D], the bank.
        train_label: int[n], 0 or more.
        test: float[m, D].
        test_label: int[m].
        ks: numbers of neighbours.
        temperature: T.
        centre: subtract the mean of `train` from both first.

    Returns:
        {"knn@20": accuracy in 0..1, ...}, "knn_centred@20" with `centre`.

    Raises:
        UserError: if there are no rows, labels are missing, or widths or lengths differ.
    """
    _check(train, train_label, test, test_label, ks)
    clipped = tuple(min(k, len(train)) for k in ks)
    bank, queries = np.float32(train), np.float32(test)
    if centre:
        mean = bank.mean(0, dtype=np.float64).astype(np.float32)
        bank, queries = bank - mean, queries - mean
    bank, queries = _normalize(bank), _normalize(queries)
    num_classes = int(train_label.max()) + 1
    predicted = []
    for start in range(0, len(queries), _CHUNK):
        chunk = queries[start : start + _CHUNK]
        # The last chunk is padded, so that one compiled program serves all of them.
        padded = np.pad(chunk, ((0, _CHUNK - len(chunk)), (0, 0)))
        votes = _predict()(bank, np.int32(train_label), padded, clipped, num_classes, temperature)
        predicted.append(np.asarray(votes)[:, : len(chunk)])
    correct = np.concatenate(predicted, 1) == np.asarray(test_label)[None]
    prefix = "knn_centred" if centre else "knn"
    return {f"{prefix}@{k}": float(row.mean()) for k, row in zip(ks, correct, strict=True)}


def protocol(k: int, bank: int, *, temperature: float = TEMPERATURE, centre: bool = False) -> str:
    """How a kNN score was measured, in words; `bank` is the number of training rows."""
    count = f"k = {k}" if k <= bank else f"k = {k}, clipped to all {bank} training images"
    centred = "training mean subtracted, " if centre else ""
    return f"{centred}cosine similarity, {count}, vote exp(similarity / {temperature}) (DINO)"


@functools.cache
def _predict():
    import jax
    import jax.numpy as jnp

    def predict(bank, label, queries, ks, num_classes, temperature):
        """int32[len(ks), c]: the class with the largest vote for each query."""
        similarity = jnp.matmul(queries, bank.T, precision=jax.lax.Precision.HIGHEST)
        nearest, rows = jax.lax.top_k(similarity, max(ks))
        weight, voted = jnp.exp(nearest / temperature), label[rows]

        def vote(k):
            empty = jnp.zeros((len(queries), num_classes), jnp.float32)
            line = jnp.arange(len(queries))[:, None]
            return empty.at[line, voted[:, :k]].add(weight[:, :k]).argmax(1)

        return jnp.stack([vote(k) for k in ks])

    return jax.jit(predict, static_argnums=(3, 4, 5))


def _normalize(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _check(
    train: np.ndarray,
    train_label: np.ndarray,
    test: np.ndarray,
    test_label: np.ndarray,
    ks: Sequence[int],
) -> None:
    if not len(train) or not len(test) or train.shape[1:] != test.shape[1:]:
        raise UserError(f"kNN needs rows of one width, got train {train.shape}, test {test.shape}")
    if len(train) != len(train_label) or len(test) != len(test_label):
        raise UserError("kNN needs one label per row")
    if train_label.min() < 0 or test_label.min() < 0:
        raise UserError("kNN needs labels of 0 or more; the data has none")
    if not ks or min(ks) < 1:
        raise UserError(f"kNN needs k of 1 or more, got {tuple(ks)}")
