"""Official MAE fine-tuned classifiers: timm's names, with fc_norm and head in place of norm.

Fine-tuning trains the position table, so the geometry of such a file says position="learned"; the
official default pools the patch tokens (pool="gap").
"""

from maskjax.errors import UserError
from maskjax.interop.layouts import timm
from maskjax.interop.rules import Layout
from maskjax.nn.geometry import Geometry


def rules(geometry: Geometry) -> Layout:
    """Rules of the encoder, the pooled norm and the head.

    Raises:
        UserError: The geometry has no classifier (pool="none").
    """
    if geometry.pool == "none":
        raise UserError(
            "layout classify: fine-tuned files hold a classifier, but the geometry says "
            "pool='none'; set pool='gap' (or 'cls') and num_classes, or use layout mae."
        )
    return timm.rules(geometry)
