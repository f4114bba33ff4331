"""Datasets of drawings, read from every layout.

Also assigns folds, finds copies and drawings that a backbone was pretrained on, and generates synthetic drawings.
"""

from typing import TYPE_CHECKING

from inkfold.lazy import lazy_names

if TYPE_CHECKING:
    from inkfold.data.dataset import read_dataset as read_dataset
    from inkfold.data.splits import assign_folds as assign_folds
    from inkfold.data.synthetic import write_sketches as write_sketches
    from inkfold.data.types import DataOptions as DataOptions
    from inkfold.data.types import Dataset as Dataset
    from inkfold.data.types import Drawings as Drawings

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "DataOptions": "types",
        "Dataset": "types",
        "Drawings": "types",
        "assign_folds": "splits",
        "read_dataset": "dataset",
        "write_sketches": "synthetic",
    },
)
