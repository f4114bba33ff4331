"""Judging predictions: what they are (`Predictions`), how good they are, and where they are wrong.

`measure` turns class probabilities and true classes into accuracy, calibration and their 95 % intervals (`intervals`, which
resample whole groups of drawings where there are some); `paired_difference` tests two classifiers on the same drawings;
`error_analysis` finds weak and confused classes. Charts and TensorBoard files are written here too. Nothing in this package
needs PyTorch or knows of runs and recipes.
"""

from typing import TYPE_CHECKING

from inkfold.lazy import lazy_names

if TYPE_CHECKING:
    from inkfold.evaluation.metrics import measure as measure
    from inkfold.evaluation.paired import paired_difference as paired_difference
    from inkfold.evaluation.predictions import Predictions as Predictions

__getattr__, __dir__ = lazy_names(__name__, {"Predictions": "predictions", "measure": "metrics", "paired_difference": "paired"})
