"""Official MaskAlign files: MAE's names without a decoder, the mixing matrix, and the heads.

Training files also hold the teacher (`clip_model` or `dino_model`); ours do not.
"""

from maskjax.interop.layouts import mae
from maskjax.interop.layouts.parts import linear, norm
from maskjax.interop.rules import Layout, Rule
from maskjax.nn.geometry import Geometry

UNUSED = ("clip_model.*", "dino_model.*")


def rules(geometry: Geometry, head: str = "linear", fusion: str = "linear") -> Layout:
    """Rules of encoder, matrix and heads; `head`, `fusion` are those of `config.model`."""
    at = "distill_heads.{i}"
    first, second = "heads/layer0", "heads/layer1"
    heads = {
        "linear": linear(first, at),
        "norm_linear": norm("heads/norm", f"{at}.0") + linear(first, f"{at}.1"),
        "mlp": linear(first, f"{at}.0") + linear(second, f"{at}.2"),
        "mlp_norm": linear(first, f"{at}.0")
        + norm("heads/norm", f"{at}.1")
        + linear(second, f"{at}.2"),
    }
    mix = () if fusion == "simple" else (Rule("mix", "distill_weights"),)
    return (*mae.rules(geometry), *mix, *heads[head])
