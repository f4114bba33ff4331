"""inkfold: the best drawing classifier that your machine can afford, and proof of how good it is.

Example:
    >>> import inkfold
    >>> dataset = inkfold.read_dataset("drawings")
    >>> run = inkfold.train("cpu-small", data="drawings", out="runs/first")
    >>> run.metrics["out_of_fold"]["accuracy"]
    >>> inkfold.load_run("runs/first").predict_proba(["new.png"])
"""

from typing import TYPE_CHECKING

from inkfold.lazy import lazy_names

if TYPE_CHECKING:
    from inkfold.data.dataset import read_dataset as read_dataset
    from inkfold.ensemble.build import train_any as train
    from inkfold.ensemble.build import vote as vote
    from inkfold.ensemble.model import Ensemble as Ensemble
    from inkfold.ensemble.model import load_run as load_run
    from inkfold.errors import InkfoldError as InkfoldError
    from inkfold.pipeline.run import Run as Run
    from inkfold.search.backbones import explore as explore
    from inkfold.search.study import tune as tune

__all__ = ["Ensemble", "InkfoldError", "Run", "explore", "load_run", "read_dataset", "train", "tune", "vote"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Ensemble": "ensemble.model",
        "InkfoldError": "errors",
        "Run": "pipeline.run",
        "explore": "search.backbones",
        "load_run": "ensemble.model",
        "read_dataset": "data.dataset",
        "train": "ensemble.build:train_any",
        "tune": "search.study",
        "vote": "ensemble.build",
    },
)
