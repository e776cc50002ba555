"""Losses: (prediction, target, weight) -> values per token or example, and named loss terms."""

from maskjax.losses.chamfer import chamfer
from maskjax.losses.coding_rate import coding_rate
from maskjax.losses.contrastive import supervised_contrastive
from maskjax.losses.feature import feature_error
from maskjax.losses.hidden_mean import hidden_mean
from maskjax.losses.order import pairwise_order, standardized_error
from maskjax.losses.pixel import hidden_error, logit_laplace, squared_error
from maskjax.losses.relation import relation_error, relations
from maskjax.losses.term import Term, total
from maskjax.losses.token import cross_entropy, divergence_from_uniform, soft_cross_entropy

__all__ = [
    "Term",
    "chamfer",
    "coding_rate",
    "cross_entropy",
    "divergence_from_uniform",
    "feature_error",
    "hidden_error",
    "hidden_mean",
    "logit_laplace",
    "pairwise_order",
    "relation_error",
    "relations",
    "soft_cross_entropy",
    "squared_error",
    "standardized_error",
    "supervised_contrastive",
    "total",
]
