"""maskjax: masked image modelling in JAX, with masks as first-class values."""

__version__ = "0.1.0"
