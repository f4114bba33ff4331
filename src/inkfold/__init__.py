"""inkfold: the best drawing classifier that your machine can afford, and proof of how good it is.

Example:
    >>> import inkfold
    >>> run = inkfold.fit("drawings", budget="10m", out="runs/best")
    >>> run.metrics["out_of_fold"]["accuracy"]
    >>> inkfold.load_run("runs/best").predict_proba(["new.png"])
    >>> run = inkfold.train("first", data=(pictures, labels))  # Pillow images, arrays, paths, a table ...
    >>> run.save("runs/first")

Every function is described by `help(inkfold.train)` and so on, and in docs/python.md.
"""

from typing import TYPE_CHECKING

from inkfold.lazy import lazy_names

if TYPE_CHECKING:
    from inkfold.api.deployment import export as export
    from inkfold.api.deployment import serve as serve
    from inkfold.api.results import audit as audit
    from inkfold.api.results import predict as predict
    from inkfold.api.results import report as report
    from inkfold.api.results import vote as vote
    from inkfold.api.results import weakness as weakness
    from inkfold.api.training import augment as augment
    from inkfold.api.training import check as check
    from inkfold.api.training import explore as explore
    from inkfold.api.training import fit as fit
    from inkfold.api.training import train as train
    from inkfold.api.training import tune as tune
    from inkfold.data.given import read_any_dataset as read_dataset
    from inkfold.ensemble.model import Ensemble as Ensemble
    from inkfold.ensemble.model import load_run as load_run
    from inkfold.errors import InkfoldError as InkfoldError
    from inkfold.estimators.classifier import DrawingClassifier as DrawingClassifier
    from inkfold.estimators.features import FeatureExtractor as FeatureExtractor
    from inkfold.pipeline.run import Run as Run

__all__ = [
    "DrawingClassifier",
    "Ensemble",
    "FeatureExtractor",
    "InkfoldError",
    "Run",
    "audit",
    "augment",
    "check",
    "explore",
    "export",
    "fit",
    "load_run",
    "predict",
    "read_dataset",
    "report",
    "serve",
    "train",
    "tune",
    "vote",
    "weakness",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "DrawingClassifier": "estimators.classifier",
        "Ensemble": "ensemble.model",
        "FeatureExtractor": "estimators.features",
        "InkfoldError": "errors",
        "Run": "pipeline.run",
        "audit": "audit:",
        "augment": "augment:",
        "check": "api.training",
        "explore": "api.training",
        "export": "export:",
        "fit": "api.training",
        "load_run": "ensemble.model",
        "predict": "api.results",
        "read_dataset": "data.given:read_any_dataset",
        "report": "report:",
        "serve": "serve:",
        "train": "api.training",
        "tune": "api.training",
        "vote": "api.results",
        "weakness": "api.results",
    },
)
