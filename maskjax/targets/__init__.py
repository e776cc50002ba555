"""What is predicted: pixels, with or without patch normalisation."""

from maskjax.targets import pixels

__all__ = ["pixels"]
