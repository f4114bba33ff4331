"""inkfold: the best drawing classifier that your machine can afford, and proof of how good it is.

Example:
    >>> import inkfold
    >>> run = inkfold.fit("drawings", budget="10m", out="runs/best")
    >>> run.metrics["out_of_fold"]["accuracy"]
    >>> inkfold.load_run("runs/best").predict_proba(["new.png"])
    >>> run = inkfold.train("cpu-small", data="drawings", out="runs/small")
"""

from typing import TYPE_CHECKING

from inkfold.lazy import lazy_names

if TYPE_CHECKING:
    from inkfold.auto.fit import fit as fit
    from inkfold.auto.train import train_any as train
    from inkfold.data.dataset import read_dataset as read_dataset
    from inkfold.ensemble.build import vote as vote
    from inkfold.ensemble.model import Ensemble as Ensemble
    from inkfold.ensemble.model import load_run as load_run
    from inkfold.errors import InkfoldError as InkfoldError
    from inkfold.estimators.classifier import DrawingClassifier as DrawingClassifier
    from inkfold.estimators.features import FeatureExtractor as FeatureExtractor
    from inkfold.pipeline.run import Run as Run
    from inkfold.search.backbones import explore as explore
    from inkfold.search.study import tune as tune

__all__ = [
    "DrawingClassifier",
    "Ensemble",
    "FeatureExtractor",
    "InkfoldError",
    "Run",
    "explore",
    "fit",
    "load_run",
    "read_dataset",
    "train",
    "tune",
    "vote",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "DrawingClassifier": "estimators.classifier",
        "Ensemble": "ensemble.model",
        "FeatureExtractor": "estimators.features",
        "InkfoldError": "errors",
        "Run": "pipeline.run",
        "explore": "search.backbones",
        "fit": "auto.fit",
        "load_run": "ensemble.model",
        "read_dataset": "data.dataset",
        "train": "auto.train:train_any",
        "tune": "search.study",
        "vote": "ensemble.build",
    },
)
