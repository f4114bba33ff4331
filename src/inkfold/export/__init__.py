"""Exports finished runs and ensembles as files for apps.

ONNX files hold their preprocessing and are checked against the run before they are written; safetensors files are for PyTorch.
`metadata` reads a file's description without PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inkfold.export.export import ExportOptions as ExportOptions
    from inkfold.export.export import export_onnx as export_onnx
    from inkfold.export.export import export_safetensors as export_safetensors
    from inkfold.export.export import export_set as export_set
    from inkfold.export.metadata import read_about as read_about

_HOMES = {
    "ExportOptions": "export",
    "export_onnx": "export",
    "export_safetensors": "export",
    "export_set": "export",
    "read_about": "metadata",
}
__all__ = ["ExportOptions", "export_onnx", "export_safetensors", "export_set", "read_about"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that importing a module of the package imports no other."""
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
