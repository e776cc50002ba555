"""The layouts maskjax can read and write: name -> function of a geometry that gives the rules.

The order matters where two layouts have the same names (official MAE took timm's): the first wins.
"""

from collections.abc import Callable, Mapping

from maskjax.interop.geometry import Geometry
from maskjax.interop.layouts import classify, hf, mae, timm
from maskjax.interop.rules import Layout

LAYOUTS: Mapping[str, Callable[[Geometry], Layout]] = {
    "mae": mae.rules,
    "classify": classify.rules,
    "timm": timm.rules,
    "hf": hf.rules,
    "hf5": hf.rules_memory,
    "hf5saved": hf.rules_saved,
}

# What a user asks for -> the layouts that this may mean when reading.
FORMATS: Mapping[str, tuple[str, ...]] = {
    "mae": ("mae", "classify"),
    "timm": ("timm",),
    "hf": ("hf", "hf5", "hf5saved"),
}
