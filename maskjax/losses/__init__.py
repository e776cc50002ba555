"""Losses: (prediction, target, weight) -> values per token or example, and named loss terms."""

from maskjax.losses.pixel import squared_error
from maskjax.losses.term import Term, total

__all__ = ["Term", "squared_error", "total"]
