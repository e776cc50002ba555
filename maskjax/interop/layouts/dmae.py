"""Official DMAE files: MAE's names, and the heads of the aligned features."""

from maskjax.interop.layouts import mae
from maskjax.interop.layouts.parts import linear
from maskjax.interop.rules import Layout
from maskjax.nn.geometry import Geometry

PREFIX = "aligned_feature_projection_heads"


def rules(geometry: Geometry, head: str = "linear") -> Layout:
    """Rules of encoder, decoder and heads; `head` is `config.model.head`."""
    at = f"{PREFIX}.{{i}}"
    heads = {
        "linear": linear("heads/layer0", at),
        "mlp": linear("heads/layer0", f"{at}.fc1") + linear("heads/layer1", f"{at}.fc2"),
        "none": (),
    }
    return (*mae.rules(geometry), *heads[head])
