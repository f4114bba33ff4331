"""Datasets of drawings, read from every layout.

Also assigns folds, finds copies and drawings that a backbone was pretrained on, and generates synthetic drawings.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inkfold.data.dataset import read_dataset as read_dataset
    from inkfold.data.splits import assign_folds as assign_folds
    from inkfold.data.synthetic import write_sketches as write_sketches
    from inkfold.data.types import DataOptions as DataOptions
    from inkfold.data.types import Dataset as Dataset
    from inkfold.data.types import Drawings as Drawings

_HOMES = {
    "DataOptions": "types",
    "Dataset": "types",
    "Drawings": "types",
    "assign_folds": "splits",
    "read_dataset": "dataset",
    "write_sketches": "synthetic",
}
__all__ = ["DataOptions", "Dataset", "Drawings", "assign_folds", "read_dataset", "write_sketches"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that importing a module of the package imports no other."""
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
