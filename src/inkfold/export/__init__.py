"""Exports finished runs and ensembles as files for apps.

ONNX files hold their preprocessing and are checked against the run before they are written; safetensors files are for PyTorch.
`metadata` reads a file's description without PyTorch.

`inkfold.export(...)` is the function `inkfold.api.deployment.export`: `help` on that describes it.
"""

from typing import TYPE_CHECKING

from inkfold.lazy import call_package, lazy_names

if TYPE_CHECKING:
    from inkfold.export.export import ExportOptions as ExportOptions
    from inkfold.export.export import export_onnx as export_onnx
    from inkfold.export.export import export_safetensors as export_safetensors
    from inkfold.export.export import export_set as export_set
    from inkfold.export.metadata import read_about as read_about

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "ExportOptions": "export",
        "export_onnx": "export",
        "export_safetensors": "export",
        "export_set": "export",
        "read_about": "metadata",
    },
)

call_package(__name__, "inkfold.api.deployment:export")
