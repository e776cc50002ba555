"""Weights in and out: two-way tables between our parameter paths and PyTorch state dicts.

Works without torch. Five lines for people who only want the weights::

    from maskjax.interop import import_weights

    params, report = import_weights("mae.safetensors")  # refuses whatever does not fit
    print(report)
"""

from maskjax.interop.convert import from_torch, to_torch
from maskjax.interop.export import ExportReport, export_weights
from maskjax.interop.load import ImportReport, import_weights
from maskjax.interop.rules import Constant, Rule
from maskjax.nn.geometry import Geometry

__all__ = [
    "Constant",
    "ExportReport",
    "Geometry",
    "ImportReport",
    "Rule",
    "export_weights",
    "from_torch",
    "import_weights",
    "to_torch",
]
