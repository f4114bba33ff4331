"""Judging predictions: what they are (`Predictions`), how good they are, and where they are wrong.

`measure` turns class probabilities and true classes into accuracy, calibration and their 95 % intervals; `paired_difference`
tests two classifiers on the same drawings; `error_analysis` finds weak and confused classes. Charts and TensorBoard files are
written here too. Nothing in this package needs PyTorch or knows of runs and recipes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inkfold.evaluation.metrics import measure as measure
    from inkfold.evaluation.metrics import paired_difference as paired_difference
    from inkfold.evaluation.predictions import Predictions as Predictions

_MODULES = {"Predictions": "predictions", "measure": "metrics", "paired_difference": "metrics"}
__all__ = ["Predictions", "measure", "paired_difference"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module 'inkfold.evaluation' has no attribute {name!r}")
    return getattr(import_module(f"inkfold.evaluation.{_MODULES[name]}"), name)
